// Package memdir gives tests folders in memory, where the machine has such a thing: for what syncs
// files thousands of times.
package memdir

import (
	"os"
	"testing"
)

// variable names the folder that .ci/stages makes for a run, and removes even if tests are killed.
const variable = "TEST_MEMORY"

const shm = "/dev/shm"

// New returns a folder that goes with the test.
func New(t testing.TB) string {
	t.Helper()
	in := os.Getenv(variable)
	if in == "" {
		if _, err := os.Stat(shm); err != nil {
			return t.TempDir()
		}
		in = shm
	}
	dir, err := os.MkdirTemp(in, "test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
