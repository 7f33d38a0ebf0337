package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// bin is the folder of the binaries under test.
var bin string

func TestMain(m *testing.M) {
	dir, err := binaries()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	bin = dir
	os.Exit(m.Run())
}

func binaries() (string, error) {
	dir := os.Getenv("E2E_BIN")
	if dir == "" {
		at, err := os.Getwd()
		if err != nil {
			return "", err
		}
		for {
			if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
				break
			}
			if at == filepath.Dir(at) {
				return "", fmt.Errorf("no go.mod above the working directory: set E2E_BIN to the folder of the binaries")
			}
			at = filepath.Dir(at)
		}
		dir = filepath.Join(at, "bin")
	}
	for _, name := range []string{"ipfs-aws", "cluster-aws", "local-cluster", "versitygw"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("%w: run `make build` first", err)
		}
	}
	return filepath.Abs(dir)
}
