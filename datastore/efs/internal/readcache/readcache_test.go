package readcache

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func open(t *testing.T, max int64) *Cache {
	t.Helper()
	c, err := Open(filepath.Join(t.TempDir(), "cache"), max)
	require.NoError(t, err)
	return c
}

func value(n, size int) []byte { return bytes.Repeat([]byte{byte(n)}, size) }

func TestKeepsWhatFits(t *testing.T) {
	const size = 2*fileUnit - 4 // two units with its checksum
	c := open(t, 20*fileUnit)
	for i := range 30 {
		name := fmt.Sprint(i)
		require.NoError(t, c.Put(name, value(i, size), c.Epoch(name)))
		require.LessOrEqual(t, c.Bytes(), int64(20*fileUnit))
		// The first is asked for all the time, and stays.
		got, ok := c.Get("0", size)
		require.True(t, ok)
		require.Equal(t, value(0, size), got)
	}
	for i := range 30 {
		_, ok := c.Get(fmt.Sprint(i), size)
		require.Equal(t, i == 0 || i > 20, ok, i)
	}
	require.NoError(t, c.Put("large", value(1, 20*fileUnit), c.Epoch("large")))
	_, ok := c.Get("large", 20*fileUnit)
	require.False(t, ok)

	files := 0
	require.NoError(t, filepath.WalkDir(c.dir, func(_ string, e os.DirEntry, err error) error {
		if filepath.Ext(e.Name()) == suffix {
			files++
		}
		return err
	}))
	require.Equal(t, 10, files)
}

func TestAFlippedByteIsNeverServed(t *testing.T) {
	c := open(t, 1<<20)
	v := value(1, 1000)
	for i := range len(v) + 4 {
		require.NoError(t, c.Put("x", v, c.Epoch("x")))
		data, err := os.ReadFile(c.path("x"))
		require.NoError(t, err)
		data[i] ^= 1
		require.NoError(t, os.WriteFile(c.path("x"), data, 0o600))
		_, ok := c.Get("x", 1000)
		require.False(t, ok)
	}
	require.NoError(t, c.Put("x", v, c.Epoch("x")))
	require.NoError(t, os.Rename(c.path("x"), c.path("y")))
	require.NoError(t, c.Put("y", v, c.Epoch("y")))
	got, ok := c.Get("y", 1000)
	require.True(t, ok)
	require.Equal(t, v, got)
	_, ok = c.Get("y", 999)
	require.False(t, ok, "another size")
}

func TestDroppedWhileItWasRead(t *testing.T) {
	c := open(t, 1<<20)
	epoch := c.Epoch("x")
	c.Drop("x")
	require.NoError(t, c.Put("x", value(1, 10), epoch))
	_, ok := c.Get("x", 10)
	require.False(t, ok)
	require.Zero(t, c.Bytes())
	require.NoError(t, c.Put("x", value(2, 10), c.Epoch("x")))
	got, ok := c.Get("x", 10)
	require.True(t, ok)
	require.Equal(t, value(2, 10), got)
	c.Drop("x")
	_, ok = c.Get("x", 10)
	require.False(t, ok)
}

func TestOpenEmptiesItsOwnDirectoryOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	c, err := Open(dir, 1<<20)
	require.NoError(t, err)
	require.NoError(t, c.Put("x", value(1, 10), c.Epoch("x")))
	c.Close()
	_, ok := c.Get("x", 10)
	require.False(t, ok)
	require.NoError(t, c.Put("y", value(1, 10), c.Epoch("y")))
	c, err = Open(dir, 1<<20)
	require.NoError(t, err)
	require.NoFileExists(t, c.path("x"))

	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "thesis.doc"), nil, 0o600))
	_, err = Open(other, 1<<20)
	require.ErrorContains(t, err, "thesis.doc")
	require.FileExists(t, filepath.Join(other, "thesis.doc"))
}

func TestAFullDiskIsAnErrorAndNoBlock(t *testing.T) {
	c := open(t, 1<<20)
	require.NoError(t, os.RemoveAll(filepath.Dir(c.path("x"))))
	require.ErrorContains(t, c.Put("x", value(1, 10), c.Epoch("x")), c.path("x"))
	require.Zero(t, c.Bytes())
	_, ok := c.Get("x", 10)
	require.False(t, ok)
}

func TestManyAtOnce(t *testing.T) {
	c := open(t, 64*fileUnit)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				name := fmt.Sprint((g * i) % 50)
				want := value((g*i)%50, 3000)
				if got, ok := c.Get(name, 3000); ok && !bytes.Equal(want, got) {
					t.Errorf("%s is wrong", name)
				}
				if err := c.Put(name, want, c.Epoch(name)); err != nil {
					t.Error(err)
				}
				if i%7 == 0 {
					c.Drop(name)
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, c.Bytes(), int64(64*fileUnit))
}
