//go:build !unix

package efs

import "os"

func lock(*os.File) error { return errNoLocks }
