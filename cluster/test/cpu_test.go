package cluster

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ticks is how many units of processor time in /proc are a second on Linux.
const ticks = 100

// processorTime is what this process and its running children have used, in
// seconds by program. On a system without /proc it is empty.
//
// Absolute and relative times of adds say little on a machine that runs three
// tasks and the bucket on a few cores; who used the cores says the rest.
type processorTime map[string]float64

func takeProcessorTime() processorTime {
	used := processorTime{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (comm) state ppid … utime stime, the 14th and 15th.
		open, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
		if open < 0 || end < open {
			continue
		}
		fields := strings.Fields(string(b[end+1:]))
		if len(fields) < 13 {
			continue
		}
		name := string(b[open+1 : end])
		switch {
		case strings.TrimSpace(string(b[:open])) == strconv.Itoa(os.Getpid()):
			name = "client and S3 proxy"
		case fields[1] != strconv.Itoa(os.Getpid()):
			continue
		}
		user, _ := strconv.ParseFloat(fields[11], 64) // numbers by their format
		system, _ := strconv.ParseFloat(fields[12], 64)
		used[name] += (user + system) / ticks
	}
	return used
}

// since is what was used since an earlier look.
func (p processorTime) since(earlier processorTime) processorTime {
	d := processorTime{}
	for name, s := range p {
		d[name] = s - earlier[name]
	}
	return d
}

func (p processorTime) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		parts = append(parts, fmt.Sprintf("%s %.1f s", name, p[name]))
	}
	return strings.Join(parts, ", ")
}
