package record

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// ThisMachine describes the machine that this program runs on. What the system does not tell is left empty.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.GOMAXPROCS(0), OS: runtime.GOOS, Arch: runtime.GOARCH}
	value := func(file, name, sep string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			return ""
		}
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, sep); ok && strings.TrimSpace(k) == name {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	m.CPU = value("/proc/cpuinfo", "model name", ":")
	if kb, err := strconv.ParseFloat(strings.TrimSuffix(value("/proc/meminfo", "MemTotal", ":"), " kB"), 64); err == nil {
		m.MemoryGB = float64(int(kb/(1<<20)*10)) / 10
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.OS += " " + strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	return m
}

// measured are the modules whose versions matter.
var measured = []string{
	"github.com/ipfs/kubo", "github.com/ipfs/go-ds-s3", "github.com/ipfs/go-ds-flatfs", "github.com/ipfs/go-ds-pebble", "github.com/ipfs/boxo",
}

// BuiltWith are the versions of what is measured.
func BuiltWith() []Version {
	v := []Version{{"go", runtime.Version()}}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, d := range info.Deps {
		for _, name := range measured {
			if d.Path == name {
				v = append(v, Version{strings.TrimPrefix(name, "github.com/"), d.Version})
			}
		}
	}
	return v
}
