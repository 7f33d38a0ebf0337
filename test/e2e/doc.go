// Package e2e checks the promises that only whole processes can keep: it runs
// the built binaries as a user does, through local-cluster, and nothing of this
// module's own code.
//
// The binaries are taken from E2E_BIN, or else from bin/ beside go.mod; a
// missing one fails the tests. With -short one blockstore runs with a small
// tree.
package e2e
