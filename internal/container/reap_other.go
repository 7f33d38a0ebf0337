//go:build !linux

package container

import "context"

// ReapOrphans does nothing here: containers are Linux.
func ReapOrphans(context.Context) {}
