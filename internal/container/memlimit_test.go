package container

import (
	"math"
	"runtime/debug"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func files(pairs ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1] + "\n")}
	}
	return m
}

func TestFind(t *testing.T) {
	const v1 = "12:cpuset:/docker/c1\n5:cpu,memory:/docker/c1\n0::/system.slice"
	for name, c := range map[string]struct {
		root fstest.MapFS
		want int64
	}{
		"no Linux":                  {files(), 0},
		"version 2, own namespace":  {files("proc/self/cgroup", "0::/", "sys/fs/cgroup/memory.max", "1073741824"), 1 << 30},
		"version 2, none":           {files("proc/self/cgroup", "0::/", "sys/fs/cgroup/memory.max", "max"), 0},
		"version 2, the host's":     {files("proc/self/cgroup", "0::/a/b", "sys/fs/cgroup/a/memory.max", "4096", "sys/fs/cgroup/a/b/memory.max", "max"), 4096},
		"the lowest above":          {files("proc/self/cgroup", "0::/a/b", "sys/fs/cgroup/a/memory.max", "9", "sys/fs/cgroup/a/b/memory.max", "8"), 8},
		"version 1, own part seen":  {files("proc/self/cgroup", v1, "sys/fs/cgroup/memory/memory.limit_in_bytes", "2097152"), 2 << 20},
		"version 1, the whole seen": {files("proc/self/cgroup", v1, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712", "sys/fs/cgroup/memory/docker/c1/memory.limit_in_bytes", "2097152"), 2 << 20},
		"version 1, none":           {files("proc/self/cgroup", v1, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := find(c.root)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	_, err := find(files("proc/self/cgroup", "0::/", "sys/fs/cgroup/memory.max", "much"))
	require.ErrorContains(t, err, "/sys/fs/cgroup/memory.max")
}

func TestHeapLeavesRoom(t *testing.T) {
	require.Equal(t, int64(900), heapOf(1000, 0))
	require.Equal(t, int64(720), heapOf(1000, 200))
	require.Equal(t, int64(500), heapOf(1000, 900), "half at least")
}

func TestTheEnvironmentWins(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	debug.SetMemoryLimit(math.MaxInt64 - 1)
	t.Setenv(MemoryVariable, "1GiB")
	said, err := SetMemoryLimit(0)
	require.NoError(t, err)
	require.Contains(t, said, "GOMEMLIMIT=1GiB")
	require.Equal(t, int64(math.MaxInt64-1), debug.SetMemoryLimit(-1), "which the runtime has read itself")
}
