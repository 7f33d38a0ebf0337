package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// MemoryVariable is Go's own setting, which wins.
const MemoryVariable = "GOMEMLIMIT"

// unlimited is what an old cgroup says when it has no limit: the largest number
// of pages. Anything as large means none.
const unlimited = 1 << 60

// SetMemoryLimit sets the soft limit of the heap from the cgroup of this process, and tells
// in words what it did; "" if there is no limit to keep to. outside is how many
// bytes the process takes besides what Go knows of (mapped memory), at most.
func SetMemoryLimit(outside int64) (said string, err error) {
	if v := os.Getenv(MemoryVariable); v != "" {
		return MemoryVariable + "=" + v + ", as the environment says", nil
	}
	limit, err := find(os.DirFS("/"))
	if err != nil || limit == 0 {
		return "", err
	}
	heap := heapOf(limit, outside)
	debug.SetMemoryLimit(heap)
	return fmt.Sprintf("%s=%dMiB, in a container of %d MiB", MemoryVariable, heap>>20, limit>>20), nil
}

// heapOf is nine tenths of what is left; the tenth is for stacks of the kernel,
// the program itself and the moment that a collection takes. It is never below
// half, where collecting would be all that the program does.
func heapOf(limit, outside int64) int64 {
	return max((limit-outside)/10*9, limit/2)
}

// find returns the lowest limit of the cgroups that this process is in, 0 for
// none. root is the file system's.
func find(root fs.FS) (int64, error) {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find the memory limit of this container: %w", err)
	}
	lowest := int64(0)
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		// hierarchy:controllers:path, with no controllers in version 2
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 {
			continue
		}
		base, file := "sys/fs/cgroup", "memory.max"
		switch {
		case strings.Contains(","+parts[1]+",", ",memory,"):
			base, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case parts[1] != "":
			continue
		}
		// The path may be that of the host, of which only the last part is to be seen
		// here: then the root is this container's.
		for at := path.Clean("/" + parts[2]); ; at = path.Dir(at) {
			n, err := limitIn(root, path.Join(base, at, file))
			if err != nil {
				return 0, err
			}
			if n > 0 && (lowest == 0 || n < lowest) {
				lowest = n
			}
			if at == "/" {
				break
			}
		}
	}
	return lowest, nil
}

func limitIn(root fs.FS, name string) (int64, error) {
	text, err := fs.ReadFile(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find the memory limit of this container: %w", err)
	}
	v := strings.TrimSpace(string(text))
	if v == "max" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("find the memory limit of this container: /%s: %w", name, err)
	}
	if n >= unlimited {
		return 0, nil
	}
	return n, nil
}
