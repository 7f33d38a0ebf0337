// Package ctl is ipfs-cluster-ctl as a command tree: the same commands, flags
// and JSON, on the same client library, for the REST API of the peer in the same
// container unless --host names another.
//
// Exit codes follow from the error: see [ExitCode].
package ctl
