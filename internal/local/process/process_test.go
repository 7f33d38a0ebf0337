//go:build unix

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func shell(t *testing.T, script string) Spec {
	return Spec{
		Name: "the child", Path: "/bin/sh", Args: []string{"-c", script},
		Env: []string{"PATH=" + os.Getenv("PATH")}, Log: filepath.Join(t.TempDir(), "child.log"),
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestExitIsDescribedInOneLine(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"status":   {`echo first; echo "no space left" >&2; echo; exit 3`, `exited with status 3; its last words: "no space left"; log: `},
		"signal":   {`kill -9 $$`, `was killed by signal 9 (killed); it logged nothing; log: `},
		"finished": {`true`, `exited with status 0; it logged nothing; log: `},
	} {
		t.Run(name, func(t *testing.T) {
			spec := shell(t, c.script)
			p, err := Start(spec)
			require.NoError(t, err)
			<-p.Done()
			var exit *Exit
			require.ErrorAs(t, p.Err(), &exit)
			require.Equal(t, fmt.Sprintf("the child (pid %d) %s%s", p.PID(), c.want, spec.Log), exit.Error())
			require.NotContains(t, exit.Error(), "\n")
		})
	}
}

func TestLastLineIsOfThisRunOnly(t *testing.T) {
	spec := shell(t, "exit 1")
	require.NoError(t, os.WriteFile(spec.Log, []byte("from the run before\n"), 0o600))
	err := Run(t.Context(), spec)
	require.ErrorContains(t, err, "it logged nothing")
	kept, err := os.ReadFile(spec.Log)
	require.NoError(t, err)
	require.Equal(t, "from the run before\n", string(kept))
}

func TestRunReportsFailureAndSuccess(t *testing.T) {
	require.NoError(t, Run(t.Context(), shell(t, "exit 0")))
	var exit *Exit
	require.ErrorAs(t, Run(t.Context(), shell(t, "exit 1")), &exit)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Run(ctx, shell(t, "exec sleep 600")), context.Canceled)
}

func TestMissingBinaryStartsNothing(t *testing.T) {
	_, err := Start(Spec{Name: "the child", Path: "/nonexistent/bin", Log: filepath.Join(t.TempDir(), "log")})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "start the child")
}

func TestStopTerminatesThenKills(t *testing.T) {
	polite, err := Start(shell(t, `trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done`))
	require.NoError(t, err)
	stubborn := shell(t, `trap '' TERM; echo ready; while :; do sleep 0.05; done`)
	stubborn.Name = "the stubborn one"
	deaf, err := Start(stubborn)
	require.NoError(t, err)
	for _, p := range []*Process{polite, deaf} {
		require.Eventually(t, func() bool { return p.LastLine() == "ready" }, time.Minute, 5*time.Millisecond)
	}
	killed := Stop(t.Context(), time.Now().Add(500*time.Millisecond), polite, nil, deaf)
	require.Equal(t, []string{"the stubborn one"}, killed)
	require.ErrorContains(t, polite.Err(), `exited with status 0; its last words: "bye"`)
	require.ErrorContains(t, deaf.Err(), "killed by signal 9")
	require.False(t, alive(polite.PID()))
	require.False(t, alive(deaf.PID()))
}

func TestKillTakesTheWholeGroup(t *testing.T) {
	p, err := Start(shell(t, `sleep 600 & echo $!; wait`))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.LastLine() != "" }, time.Minute, 5*time.Millisecond)
	grandchild, err := strconv.Atoi(p.LastLine())
	require.NoError(t, err)
	p.Kill()
	<-p.Done()
	require.Eventually(t, func() bool { return !running(grandchild) }, time.Minute, 5*time.Millisecond)
}

// running tells a live process from one that waits to be reaped by whoever
// adopted it.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	if err != nil {
		return alive(pid)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
