// Package cluster runs the built binaries as tasks are run, an IPFS node and a
// sidecar each, kills them, and looks at what is left.
//
// `make build` makes the binaries. CLUSTER_TEST_PINS and CLUSTER_TEST_ROUNDS
// scale the test of acknowledged pins, CLUSTER_TEST_ADD_MIB and
// CLUSTER_TEST_ADD_FILES that of adds, CLUSTER_TEST_ZONE_PINS that of zones.
package cluster
