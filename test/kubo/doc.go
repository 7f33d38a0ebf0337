// Package kubo runs kubo's own tests of its command line, test/cli, against
// bin/ipfs-aws, with each blockstore. Nothing of kubo's source is in this
// repository: the tests come with the module, in the version of go.mod.
//
//	make test-kubo
//	go test -v -timeout 90m .                                # in this folder
//	go test -v -run TestKubo/s3 . -only 'TestPins|TestFiles' # some of them
//
// kubo's tests look for the program at cmd/ipfs/ipfs, next to a go.mod. There
// they find the program in the folder ipfs, which becomes bin/ipfs-aws and, where
// a repo is made, names the blockstore to make it with. The S3 server is a real
// versitygw, and each repo has a prefix of its own.
//
// [differences] lists the tests that fail on purpose, with the reason, and
// [elsewhere] those that need what this machine may not have. Both lists are
// exact: a test that fails and is not listed fails the run, and so does a listed
// one that passes, and a test that skips itself without being listed.
//
// Some of kubo's tests wait for fixed times. A test that fails among others is
// tried again alone, up to twice, and the log names it.
//
// This is a module of its own, because kubo's tests import what the node does
// not. It requires the root module, so every version is the node's.
package kubo
