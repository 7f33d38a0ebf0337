//go:build !linux

package proc

import "syscall"

// endWithParent does nothing: only Linux has such a thing.
func endWithParent(*syscall.SysProcAttr) {}
