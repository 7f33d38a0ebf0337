//go:build unix

package s3ds

import (
	"os"
	"strconv"
	"syscall"
)

// fileIdentity tells a file from a copy of it: its number on its file system, which lasts as long as the file. It is
// "" where there is none. The device is left out: it changes when a network file system is mounted again.
func fileIdentity(fi os.FileInfo) string {
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		return strconv.FormatUint(uint64(s.Ino), 16) //nolint:unconvert // other widths elsewhere
	}
	return ""
}
