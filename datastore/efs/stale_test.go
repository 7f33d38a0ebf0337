package efs

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs/faultfs"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/memdir"
)

// aged is a closed store of 20 blocks, in a file system whose clock has ticked since.
func aged(t *testing.T) Config {
	t.Helper()
	cfg := testConfig(memdir.New(t))
	cfg.ShardFunc = "/repo/flatfs/shard/v1/suffix/1"
	d := mustReopen(t, cfg)
	putBlocks(t, d, 0, 20)
	require.NoError(t, d.Close())
	waitForTick(t, cfg)
	return cfg
}

// waitForTick returns when a change gets a later time than any in the store has.
func waitForTick(t *testing.T, cfg Config) {
	t.Helper()
	var last time.Time
	require.NoError(t, filepath.WalkDir(cfg.Path, func(_ string, e os.DirEntry, err error) error {
		require.NoError(t, err)
		fi, err := e.Info()
		require.NoError(t, err)
		if fi.ModTime().After(last) {
			last = fi.ModTime()
		}
		return nil
	}))
	probe := cfg.Path + ".tick"
	require.Eventually(t, func() bool {
		require.NoError(t, os.WriteFile(probe, nil, 0o600))
		fi, err := os.Stat(probe)
		require.NoError(t, err)
		return fi.ModTime().After(last)
	}, time.Minute, time.Millisecond)
}

// walked opens the store and returns how many directories were listed beyond
// the store's own and .temp.
func walked(t *testing.T, cfg Config) (*Datastore, int) {
	t.Helper()
	d, f, err := openFaulty(cfg)
	require.NoError(t, err)
	return d, f.Counts()[faultfs.ReadDir] - 2
}

func blockPath(cfg Config, n int) string {
	key, _ := block(n)
	name := key.String()[1:]
	return filepath.Join(cfg.Path, name[len(name)-1:], name+blockSuffix)
}

func TestGoodIndexIsBelieved(t *testing.T) {
	cfg := aged(t)
	for range 3 {
		d, n := walked(t, cfg)
		require.Zero(t, n)
		requireBlocks(t, d, 0, 20)
		require.NoError(t, d.Close())
	}
}

func TestAnotherWriterIsNoticed(t *testing.T) {
	cfg := aged(t)
	key, value := block(20)
	path := blockPath(cfg, 20)
	require.NoError(t, os.WriteFile(path, value, 0o600))
	require.NoError(t, os.Remove(blockPath(cfg, 0)))
	d, n := walked(t, cfg)
	require.Positive(t, n)
	require.LessOrEqual(t, n, 2, "only what has changed is read again")
	requireBlocks(t, d, 1, 21)
	got, err := d.Get(ctx, key)
	require.NoError(t, err)
	require.Equal(t, value, got)
	require.NoError(t, d.Close())
}

// A backup brings the modification times of the time when it was made; the
// index is newer, and knows blocks that are no longer there.
func TestRestoredBackupIsNoticed(t *testing.T) {
	cfg := aged(t)
	cfg.IndexPath = filepath.Join(filepath.Dir(cfg.Path), "index") // on the task's own disk: not restored
	require.NoError(t, os.Rename(filepath.Join(cfg.Path, IndexFile), cfg.IndexPath))
	backup := cfg.Path + ".backup"
	copyTree(t, cfg.Path, backup)

	d := mustReopen(t, cfg)
	putBlocks(t, d, 20, 40)
	require.NoError(t, d.Close())
	waitForTick(t, cfg)
	require.NoError(t, os.RemoveAll(cfg.Path))
	copyTree(t, backup, cfg.Path)

	d, n := walked(t, cfg)
	require.Positive(t, n)
	requireBlocks(t, d, 0, 20)
	require.NoError(t, d.Close())
}

// The clock is set back: what is written then is older than what the index says.
func TestClockSetBackIsNoticed(t *testing.T) {
	cfg := aged(t)
	_, value := block(20)
	path := blockPath(cfg, 20)
	require.NoError(t, os.WriteFile(path, value, 0o600))
	past := time.Now().Add(-24 * time.Hour)
	require.NoError(t, os.Chtimes(filepath.Dir(path), past, past))
	d, _ := walked(t, cfg)
	requireBlocks(t, d, 0, 21)
	require.NoError(t, d.Close())
}

// Somebody gives a directory the modification time that the index expects: the
// change time gives them away.
func TestForgedModificationTimeIsNoticed(t *testing.T) {
	cfg := aged(t)
	path := blockPath(cfg, 0)
	dir := filepath.Dir(path)
	fi, err := os.Stat(dir)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Chtimes(dir, fi.ModTime(), fi.ModTime()))
	d, n := walked(t, cfg)
	require.Equal(t, 1, n)
	requireBlocks(t, d, 1, 20)
	require.NoError(t, d.Close())
}

// Stock flatfs in between, so soon that a coarse clock would not show it: it
// sweeps the marker, and every young stamp is then doubted.
func TestStockRightAfterCloseIsNoticed(t *testing.T) {
	cfg := aged(t)
	stock := openStock(t, cfg.Path)
	putBlocks(t, stock, 20, 25)
	require.NoError(t, stock.Close())
	d, n := walked(t, cfg)
	require.Positive(t, n)
	requireBlocks(t, d, 0, 25)
	require.NoError(t, d.Close())
}

// Somebody writes while the store is open, which nobody may: what they wrote
// is found at Close, when the directory and the index are compared.
func TestWriterBesideUsIsFoundAtClose(t *testing.T) {
	cfg := aged(t)
	d := mustReopen(t, cfg)
	_, value := block(20)
	require.NoError(t, os.WriteFile(blockPath(cfg, 20), value, 0o600))
	require.NoError(t, os.Remove(blockPath(cfg, 0)))
	putBlocks(t, d, 21, 60) // into every shard
	require.NoError(t, d.Close())
	d = mustReopen(t, cfg)
	requireBlocks(t, d, 1, 60)
	require.NoError(t, d.Close())
}

// A shard's directory that somebody removed is made anew by the Put that needs it, wherever that was already.
func TestRemovedDirectoryIsMadeAnew(t *testing.T) {
	cfg := aged(t)
	d := mustReopen(t, cfg)
	for i := range 20 {
		require.NoError(t, os.RemoveAll(filepath.Dir(blockPath(cfg, i))))
		key, value := block(i)
		require.NoError(t, d.Put(ctx, key, append(value, 'x')), "block %d", i)
		got, err := d.Get(ctx, key)
		require.NoError(t, err)
		require.Equal(t, append(value, 'x'), got)
	}
	require.NoError(t, d.Close())
}

// A block that somebody removed is not found, and one that they changed is read as it is.
func TestReadsCorrectTheIndex(t *testing.T) {
	cfg := aged(t)
	cfg.unhashed = true
	d := mustReopen(t, cfg)
	require.NoError(t, os.Remove(blockPath(cfg, 0)))
	key, _ := block(0)
	_, err := d.Get(ctx, key)
	require.Error(t, err)
	has, err := d.Has(ctx, key)
	require.NoError(t, err)
	require.False(t, has)
	for _, value := range []string{"shorter", "a good deal longer than it was before"} {
		require.NoError(t, os.WriteFile(blockPath(cfg, 1), []byte(value), 0o600))
		key, _ = block(1)
		got, err := d.Get(ctx, key)
		require.NoError(t, err)
		require.Equal(t, value, string(got))
		size, err := d.GetSize(ctx, key)
		require.NoError(t, err)
		require.Equal(t, len(value), size)
	}
	require.NoError(t, d.Close())
}

func TestAnotherShardFuncsIndexIsNotBelieved(t *testing.T) {
	cfg := aged(t)
	other := testConfig(memdir.New(t))
	other.IndexPath = filepath.Join(cfg.Path, IndexFile)
	d := mustReopen(t, other)
	putBlocks(t, d, 0, 3)
	require.NoError(t, d.Close())
	d, n := walked(t, cfg)
	require.Positive(t, n)
	requireBlocks(t, d, 0, 20)
	require.NoError(t, d.Close())
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	var dirs []string
	require.NoError(t, filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		require.NoError(t, err)
		rel, err := filepath.Rel(from, path)
		require.NoError(t, err)
		target := filepath.Join(to, rel)
		fi, err := e.Info()
		require.NoError(t, err)
		if e.IsDir() {
			dirs = append(dirs, rel)
			return os.MkdirAll(target, 0o755)
		}
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(target, data, fi.Mode()))
		return os.Chtimes(target, fi.ModTime(), fi.ModTime())
	}))
	for _, rel := range dirs {
		fi, err := os.Stat(filepath.Join(from, rel))
		require.NoError(t, err)
		require.NoError(t, os.Chtimes(filepath.Join(to, rel), fi.ModTime(), fi.ModTime()))
	}
}
