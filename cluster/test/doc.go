// Package cluster runs the built binaries as tasks are run, an IPFS node and a
// sidecar each, kills them, and looks at what is left.
//
// `make build` makes the binaries. CLUSTER_TEST_PINS and CLUSTER_TEST_ROUNDS
// scale the test of acknowledged pins, CLUSTER_TEST_ADD_MIB and
// CLUSTER_TEST_ADD_FILES that of adds, CLUSTER_TEST_ZONE_PINS and
// CLUSTER_TEST_ZONE_COPIES that of zones, CLUSTER_TEST_GROWTH_PINS and
// CLUSTER_TEST_GROWTH_CLIENTS that of growth, and CLUSTER_TEST_PAUSE_SECONDS
// that of a peer that was paused. CLUSTER_TEST_STORM_SECONDS and CLUSTER_TEST_STORM_MIB scale
// the storm of adds next to collections of garbage, CLUSTER_TEST_GOOD_PINS the test of
// pins that cannot be found. CLUSTER_TEST_TASK_CPUS limits the processors
// of each task.
package cluster
