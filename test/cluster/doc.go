// Package cluster runs the built binaries as tasks are run, an IPFS node and a
// sidecar each, kills them, pauses them, moves them, and looks at what is left.
//
// `make build` makes the binaries. CLUSTER_TEST_PINS and CLUSTER_TEST_ROUNDS
// scale the test of acknowledged pins.
package cluster
