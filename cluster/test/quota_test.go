package cluster

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// quotaPeriod is the time over which the kernel holds a quota, in µs.
const quotaPeriod = 20_000

// taskProcessors limits every task, its node and its sidecar together, to
// CLUSTER_TEST_TASK_CPUS processors, as Fargate does: without it three tasks
// share those of this machine, and what is measured is how many it has. It
// takes root and the cpu controller of control groups version 1. It returns the
// file that takes the processes' IDs, or "" if there is no limit.
func taskProcessors(t testing.TB, task string) string {
	limit := os.Getenv("CLUSTER_TEST_TASK_CPUS")
	if limit == "" {
		return ""
	}
	processors, err := strconv.ParseFloat(limit, 64)
	require.NoError(t, err, "CLUSTER_TEST_TASK_CPUS")
	dir := filepath.Join("/sys/fs/cgroup/cpu", "cluster-test-"+strconv.Itoa(os.Getpid())+"-"+task)
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.Remove(dir)) })
	for name, value := range map[string]int{
		"cpu.cfs_period_us": quotaPeriod, "cpu.cfs_quota_us": int(processors * quotaPeriod),
		"cpu.shares": 1 << 15, // the limit is what it gets, whatever else runs here
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(strconv.Itoa(value)), 0o600))
	}
	return filepath.Join(dir, "cgroup.procs")
}
