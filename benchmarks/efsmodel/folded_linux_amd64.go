package efsmodel

import "golang.org/x/sys/unix"

// foldedHere knows the system calls that newer architectures do not have.
func foldedHere(n int) bool {
	switch n {
	case unix.SYS_OPEN, unix.SYS_CREAT, unix.SYS_RENAME, unix.SYS_MKDIR:
		return true
	}
	return false
}
