package efs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

// TestDamagedFilesNextToADaemon: files of blocks are flipped, emptied and grown while a daemon runs. `repo verify` names each, though the daemon remembers them;
// after a restart none is served; and adding the same content again, as the message says, heals all.
func TestDamagedFilesNextToADaemon(t *testing.T) {
	t.Parallel()
	n := testnode.New(t, testnode.Ours(t))
	n.Run("init", "--blockstore", "efs", "--profile", "test")
	n.Run("config", "Routing.Type", "none")
	n.Start()
	damage := map[string]func(string, []byte) error{
		"flipped": func(path string, b []byte) error { b[len(b)/2] ^= 1; return os.WriteFile(path, b, 0o600) },
		"emptied": func(path string, _ []byte) error { return os.Truncate(path, 0) },
		"grown":   func(path string, b []byte) error { return os.WriteFile(path, append(b, "more"...), 0o600) },
	}
	dir, cids := t.TempDir(), map[string]string{}
	content := func(name string) []byte { return bytes.Repeat([]byte(name), 1000) }
	add := func(name string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, content(name), 0o600))
		return strings.TrimSpace(n.Run("add", "-Q", "--raw-leaves", file))
	}
	for name, do := range damage {
		cids[name] = add(name)
		id, err := cid.Decode(cids[name])
		require.NoError(t, err)
		out, err := exec.CommandContext(t.Context(), "find", n.Dir, "-name", dshelp.MultihashToDsKey(id.Hash()).String()[1:]+".data").Output()
		require.NoError(t, err)
		path := strings.TrimSpace(string(out))
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, do(path, b))
	}
	out, errOut, err := n.Try("repo", "verify")
	require.Error(t, err)
	require.Contains(t, out+errOut, "3 blocks corrupt")
	n.Stop()
	n.Start()
	for name, id := range cids {
		require.Contains(t, n.Fail("cat", id), "block is corrupt", name)
	}
	require.Contains(t, n.Run("datastore", "stat"), "bytes do not hash to its name")
	for name, id := range cids {
		require.Equal(t, id, add(name))
	}
	n.Run("repo", "verify")
	for name, id := range cids {
		require.Equal(t, string(content(name)), n.Run("cat", id))
	}
	n.Stop()
}
