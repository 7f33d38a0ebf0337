package gate

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// stages is a checkout with nothing but .ci/stages and a Makefile. hang starts a process, leaves
// files, and does not end.
func stages(t *testing.T) (dir string, command func(args ...string) *exec.Cmd) {
	t.Helper()
	dir = t.TempDir()
	script, err := os.ReadFile("../../../.ci/stages")
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".ci"), 0o700))
	syscall.ForkLock.RLock() // a child of another test would keep it open for writing, and nobody could start it
	err = os.WriteFile(filepath.Join(dir, ".ci", "stages"), script, 0o700)
	syscall.ForkLock.RUnlock()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Makefile"), []byte(`
run:
	@exec .ci/stages fine hang
outer:
	@exec .ci/stages fine bad
fine:
	@true
bad:
	@echo $$TMPDIR >folders; false
hang:
	@sleep 600 & echo $$$$ $$! >pids; mkdir "$$TMPDIR/left"; echo $$TMPDIR $$TEST_MEMORY >folders; : >ready; wait
`), 0o600))
	return dir, func(args ...string) *exec.Cmd {
		cmd := proc.Command(args[0], args[1:]...)
		cmd.Dir = dir
		for _, kv := range os.Environ() { // these tests may run in a stage themselves
			name, _, _ := strings.Cut(kv, "=")
			if name != "STAGES_TABLE" && name != "TEST_MEMORY" && name != "MAKEFLAGS" && name != "MAKELEVEL" {
				cmd.Env = append(cmd.Env, kv)
			}
		}
		return cmd
	}
}

func words(t *testing.T, path ...string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return strings.Fields(string(raw))
}

// Whoever is killed, and however: processes and files of a stage are gone a moment later.
func TestNothingOutlivesTheStages(t *testing.T) {
	for name, c := range map[string]struct {
		args   []string
		signal syscall.Signal
	}{
		"the script, killed":     {[]string{".ci/stages", "fine", "hang"}, syscall.SIGKILL},
		"the script, ended":      {[]string{".ci/stages", "fine", "hang"}, syscall.SIGTERM},
		"the script, by Ctrl-C":  {[]string{".ci/stages", "fine", "hang"}, syscall.SIGINT},
		"the make that calls it": {[]string{"make", "run"}, syscall.SIGKILL},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, command := stages(t)
			cmd := command(c.args...)
			require.NoError(t, cmd.Start())
			require.Eventually(t, func() bool {
				_, err := os.Stat(filepath.Join(dir, "ready"))
				return err == nil
			}, time.Minute, 5*time.Millisecond)
			pids, folders := words(t, dir, "pids"), words(t, dir, "folders")
			require.Len(t, pids, 2)
			require.NotEmpty(t, folders)
			require.DirExists(t, filepath.Join(folders[0], "left"))
			require.NoError(t, cmd.Process.Signal(c.signal))
			require.Error(t, cmd.Wait())
			for _, pid := range pids {
				require.Eventually(t, func() bool { return gone(t, pid) }, time.Minute, 10*time.Millisecond, "process %s is left", pid)
			}
			for _, folder := range folders {
				require.Eventually(t, func() bool {
					_, err := os.Stat(folder)
					return os.IsNotExist(err)
				}, time.Minute, 10*time.Millisecond, "%s is left", folder)
			}
		})
	}
}

func gone(t *testing.T, pid string) bool {
	t.Helper()
	n, err := strconv.Atoi(pid)
	require.NoError(t, err)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n))
	if err != nil {
		return syscall.Kill(n, 0) != nil
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

// The table names every stage up to the one that failed, also those of a stage that has stages.
func TestStagesSayWhatTimeTheyTook(t *testing.T) {
	dir, command := stages(t)
	out, err := command(".ci/stages", "fine", "outer", "fine").CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Regexp(t, `(?m)^fine +\d+ s\n  fine +\d+ s\n  bad +\d+ s  FAILED\nouter +\d+ s  FAILED\ntogether +\d+ s\n\z`, string(out))
	require.NoDirExists(t, words(t, dir, "folders")[0])

	out, err = command(".ci/stages", "fine").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "=== make fine\n")
}
