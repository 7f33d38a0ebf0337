// Package proc makes the commands of tests, so that what a test starts ends with it: on Linux the
// kernel kills a child as soon as the test binary is gone, even if that was killed with SIGKILL and
// ran no cleanup.
//
// The kernel looks at the thread that forked. The Go runtime ends a thread only when a goroutine
// ends that has locked it, which test binaries do not do; a program that may has to fork as
// internal/local/process does.
package proc

import (
	"context"
	"os/exec"
	"syscall"
)

// Command is exec.Command for a child that ends with the test binary.
func Command(name string, args ...string) *exec.Cmd { return Tie(exec.Command(name, args...)) }

// CommandContext is exec.CommandContext for a child that ends with the test binary.
func CommandContext(ctx context.Context, name string, args ...string) *exec.Cmd {
	return Tie(exec.CommandContext(ctx, name, args...))
}

// Tie makes a command that has not been started end with the test binary. Attributes that it has
// are kept.
func Tie(cmd *exec.Cmd) *exec.Cmd {
	attr := syscall.SysProcAttr{}
	if cmd.SysProcAttr != nil {
		attr = *cmd.SysProcAttr
	}
	endWithParent(&attr)
	cmd.SysProcAttr = &attr
	return cmd
}
