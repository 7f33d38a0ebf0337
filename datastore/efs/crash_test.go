package efs

import (
	"math/rand/v2"
	"path"
	"strings"
	"syscall"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs/crashfs"
	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs/faultfs"
)

// The cases of the histories that are rare there. What a crash loses is drawn
// by lot, so each is run with many seeds.
const crashSeeds = 40

const hour = 3600e9

// crashing is a store on a file system whose names are durable after SyncDir,
// and whose clock ticks once an hour.
func crashing(t *testing.T, seed uint64) (*Datastore, *faultfs.FS, *crashfs.FS, Config) {
	t.Helper()
	c := crashfs.New(rand.New(rand.NewPCG(seed, 1)), crashfs.OnSyncDir, hour)
	f := faultfs.New(c)
	cfg := Config{Path: "/blocks", ShardFunc: "/repo/flatfs/shard/v1/suffix/1", Workers: 2}
	d, err := open(cfg, f, f)
	require.NoError(t, err)
	return d, f, c, cfg
}

func failing(op faultfs.Op, done bool) func(faultfs.Op, string) faultfs.Fault {
	return func(o faultfs.Op, p string) faultfs.Fault {
		if o == op && strings.HasPrefix(p, "/blocks/") && !strings.Contains(p, tempDir) {
			return faultfs.Fault{Err: syscall.EIO, Done: done}
		}
		return faultfs.Fault{}
	}
}

// The name of a block was not made durable, and the Put failed. The next Put
// finds the block there, and must not take it for durable.
func TestPresentIsNotDurable(t *testing.T) {
	key, value := block(1)
	for seed := range uint64(crashSeeds) {
		d, f, c, cfg := crashing(t, seed)
		putBlocks(t, d, 2, 40) // all directories are there
		f.Inject(failing(faultfs.SyncDir, false))
		require.ErrorIs(t, d.Put(ctx, key, value), syscall.EIO)
		f.Inject(nil)
		require.NoError(t, d.Put(ctx, key, value))
		c.CrashAfter(1)
		require.Error(t, d.Close())
		c.Recover()
		d, err := open(cfg, f, f)
		require.NoError(t, err)
		got, err := d.Get(ctx, key)
		require.NoError(t, err, "seed %d", seed)
		require.Equal(t, value, got)
		require.NoError(t, d.Close())
	}
}

// An index is written between a delete and its being durable; the crash brings
// the block back, and with it the directory's old time, which is the same.
func TestIndexWrittenBeforeADeleteIsDurable(t *testing.T) {
	for seed := range uint64(crashSeeds) {
		d, f, c, cfg := crashing(t, seed)
		putBlocks(t, d, 0, 10)
		key, _ := block(0)
		require.NoError(t, d.Delete(ctx, key))
		c.Advance(10 * hour) // the stamp is believed on its own from here on
		require.NoError(t, d.persistAndForget())
		c.CrashAfter(1)
		require.Error(t, d.Close())
		c.Recover()
		requireIndexIsTheTree(t, cfg, f, c)
	}
}

// A temporary file was discarded and the store closed; the crash brings the file back, and it is swept.
func TestDiscardedFileComesBack(t *testing.T) {
	for seed := range uint64(crashSeeds) {
		d, f, c, cfg := crashing(t, seed)
		putBlocks(t, d, 0, 40)
		b, err := d.Batch(ctx)
		require.NoError(t, err)
		b.(*batch).bytes = batchBytes // every value is staged
		d.active.Add(spareWriters)    // in its shard
		key, _ := block(100)
		for _, value := range []string{"one", "another", "a third"} {
			require.NoError(t, b.Put(ctx, key, []byte(value)))
		}
		require.NoError(t, b.Delete(ctx, key))
		require.NoError(t, b.Commit(ctx))
		d.active.Add(-spareWriters)
		c.Advance(10 * hour)
		require.NoError(t, d.Close())
		c.Recover()
		requireIndexIsTheTree(t, cfg, f, c)
	}
}

// persistAndForget writes the index as a checkpoint does.
func (d *Datastore) persistAndForget() error {
	clock, err := d.persist()
	if err != nil {
		return err
	}
	return d.fsys.Remove(clock)
}

// requireIndexIsTheTree opens the store and compares its listing with the tree, in which nothing else may be left.
func requireIndexIsTheTree(t *testing.T, cfg Config, f *faultfs.FS, c *crashfs.FS) {
	t.Helper()
	d, err := open(cfg, f, f)
	require.NoError(t, err)
	listed := keys(t, d)
	for name := range c.Files(cfg.Path) {
		base := path.Base(name)
		require.False(t, strings.HasPrefix(base, tempPrefix), "%s was not swept", name)
		if key, ok := strings.CutSuffix(base, blockSuffix); ok {
			require.True(t, listed["/"+key], "%s is on disk and not listed", key)
			delete(listed, "/"+key)
		}
	}
	require.Empty(t, listed, "listed and not on disk")
	require.NoError(t, d.Close())
}

// A reply is lost: the rename or removal has failed as far as the store knows,
// and has taken place. What the store says next is what is there.
func TestLostReplies(t *testing.T) {
	for _, done := range []bool{true, false} {
		d, f, _, _ := crashing(t, 1)
		putBlocks(t, d, 0, 10)
		key, value := block(20)
		f.Inject(failing(faultfs.Rename, done))
		require.ErrorIs(t, d.Put(ctx, key, value), syscall.EIO)
		f.Inject(nil)
		requireSame(t, d, key, done)

		gone, _ := block(0)
		f.Inject(failing(faultfs.Remove, done))
		require.ErrorIs(t, d.Delete(ctx, gone), syscall.EIO)
		f.Inject(nil)
		requireSame(t, d, gone, !done)
		require.NoError(t, d.Close())
	}
}

func requireSame(t *testing.T, d *Datastore, key ds.Key, there bool) {
	t.Helper()
	require.Equal(t, there, keys(t, d)[key.String()])
	has, err := d.Has(ctx, key)
	require.NoError(t, err)
	require.Equal(t, there, has)
	_, err = d.GetSize(ctx, key)
	require.Equal(t, there, err == nil)
	_, err = d.Get(ctx, key)
	require.Equal(t, there, err == nil)
}
