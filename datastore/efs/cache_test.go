package efs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs/faultfs"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/memdir"
)

func cachedConfig(t *testing.T) Config {
	t.Helper()
	cfg := testConfig(memdir.New(t))
	cfg.CachePath, cfg.CacheBytes = filepath.Join(filepath.Dir(cfg.Path), "cache"), minCacheBytes
	return cfg
}

// A block is read from the file system once.
func TestReadCache(t *testing.T) {
	cfg := cachedConfig(t)
	d := mustReopen(t, cfg)
	putBlocks(t, d, 0, 50)
	require.NoError(t, d.Close())
	d, f, err := openFaulty(cfg)
	require.NoError(t, err)
	f.Counts()
	requireBlocks(t, d, 0, 50)
	require.Equal(t, 50, f.Counts()[faultfs.Read])
	requireBlocks(t, d, 0, 50)
	require.Zero(t, f.Counts()[faultfs.Read])

	// What is changed or deleted is not remembered.
	key, _ := block(0)
	require.NoError(t, d.Put(ctx, key, []byte("another")))
	got, err := d.Get(ctx, key)
	require.NoError(t, err)
	require.Equal(t, "another", string(got))
	key, _ = block(1)
	require.NoError(t, d.Delete(ctx, key))
	_, err = d.Get(ctx, key)
	require.Error(t, err)
	require.NoError(t, d.Close())

	// The next store begins with an empty cache.
	d, f, err = openFaulty(cfg)
	require.NoError(t, err)
	f.Counts()
	key, value := block(2)
	got, err = d.Get(ctx, key)
	require.NoError(t, err)
	require.Equal(t, value, got)
	require.Equal(t, 1, f.Counts()[faultfs.Read])
	require.NoError(t, d.Close())
}

func TestReadCacheTakesNoDirectoryThatIsInUse(t *testing.T) {
	cfg := cachedConfig(t)
	require.NoError(t, os.MkdirAll(cfg.CachePath, 0o755))
	precious := filepath.Join(cfg.CachePath, "thesis.doc")
	require.NoError(t, os.WriteFile(precious, []byte("x"), 0o600))
	_, err := Open(cfg)
	require.ErrorContains(t, err, "thesis.doc")
	require.FileExists(t, precious)
}

// What was written last is read from memory; that memory is bounded.
func TestRecentBlocks(t *testing.T) {
	cfg := testConfig(memdir.New(t))
	d, f, err := openFaulty(cfg)
	require.NoError(t, err)
	putBlocks(t, d, 0, 50)
	f.Counts()
	requireBlocks(t, d, 0, 50)
	require.Zero(t, f.Counts()[faultfs.Read])
	require.NoError(t, d.Close())

	r := newRecent()
	value := make([]byte, 1<<20)
	for i := range 100 {
		key, _ := block(i)
		r.add(key.String(), value)
		require.LessOrEqual(t, r.bytes, recentBytes)
	}
	first, _ := block(0)
	last, _ := block(99)
	_, there := r.get(first.String(), 1<<20)
	require.False(t, there)
	got, there := r.get(last.String(), 1<<20)
	require.True(t, there)
	got[0] = 1 // the caller's own
	again, _ := r.get(last.String(), 1<<20)
	require.Zero(t, again[0])
	for range 1000 {
		r.add(last.String(), value)
	}
	require.LessOrEqual(t, len(r.order), 2*len(r.blocks)+64)
	r.drop(last.String())
	_, there = r.get(last.String(), 1<<20)
	require.False(t, there)
}
