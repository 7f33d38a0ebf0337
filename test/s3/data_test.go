package s3bill

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// random is an endless stream of bytes that depends on the seed alone.
func random(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

// file makes a file of random bytes.
func file(t *testing.T, seed uint64, size int64) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	_, err = io.CopyN(f, random(seed), size)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return f.Name()
}

// tree makes 2,000 files of 1 to 50 KiB in 20 folders.
func tree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "tree")
	content := random(2000)
	sizes := rand.New(rand.NewPCG(1, 50))
	for i := range 2000 {
		dir := filepath.Join(root, fmt.Sprintf("folder-%02d", i/100))
		require.NoError(t, os.MkdirAll(dir, 0o700))
		data := make([]byte, 1<<10+sizes.IntN(49<<10))
		_, err := io.ReadFull(content, data)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%04d", i)), data, 0o600))
	}
	return root
}
