package efs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/mount"
	"github.com/ipfs/go-datastore/query"
	dstest "github.com/ipfs/go-datastore/test"
	flatfs "github.com/ipfs/go-ds-flatfs"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/memdir"
)

var ctx = context.Background()

// block is a value and its key, as kubo makes them.
func block(n int) (ds.Key, []byte) {
	value := []byte(fmt.Sprintf("block %d", n))
	return blockKey(value), value
}

func blockKey(value []byte) ds.Key {
	return ds.NewKey(digest(sha256.Sum256(value)).name())
}

func testConfig(dir string) Config {
	return Config{Path: filepath.Join(dir, "blocks"), ShardFunc: DefaultShardFunc, Workers: 8}
}

func mustOpen(t *testing.T, cfg Config) *Datastore {
	t.Helper()
	d, err := Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// keys lists a store.
func keys(t *testing.T, d ds.Datastore) map[string]bool {
	t.Helper()
	res, err := d.Query(ctx, query.Query{KeysOnly: true})
	require.NoError(t, err)
	entries, err := res.Rest()
	require.NoError(t, err)
	all := make(map[string]bool)
	for _, e := range entries {
		require.False(t, all[e.Key], "listed twice: %s", e.Key)
		all[e.Key] = true
	}
	return all
}

// requireBlocks checks by every call that d holds the blocks from to to, and no others.
func requireBlocks(t *testing.T, d ds.Datastore, from, to int) {
	t.Helper()
	listed := keys(t, d)
	require.Len(t, listed, to-from)
	for i := from; i < to; i++ {
		key, value := block(i)
		require.True(t, listed[key.String()], "block %d is not listed", i)
		got, err := d.Get(ctx, key)
		require.NoError(t, err)
		require.Equal(t, value, got)
		has, err := d.Has(ctx, key)
		require.NoError(t, err)
		require.True(t, has)
		size, err := d.GetSize(ctx, key)
		require.NoError(t, err)
		require.Equal(t, len(value), size)
	}
}

// leftovers lists the files of a tree that are neither blocks nor the store's own.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	var left []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), tempPrefix) || strings.HasSuffix(e.Name(), ".tmp") {
			left = append(left, path)
		}
		return nil
	})
	require.NoError(t, err)
	return left
}

// smallSuite makes the suite use as few elements as it can, but in full.
func smallSuite(t *testing.T) {
	count := dstest.ElemCount
	t.Cleanup(func() { dstest.ElemCount = count })
	if !gate.Full() {
		dstest.ElemCount = 20
	}
}

// The suite uses keys that flatfs cannot hold, so the store is mounted where
// the suite's flatfs-like keys go, as stock flatfs's own test has it.
func TestConformance(t *testing.T) {
	gate.NotQuick(t, "TestConformanceOfEveryKey runs the same suite")
	smallSuite(t)
	for _, shardFunc := range []string{"prefix/2", "suffix/3", "next-to-last/2"} {
		t.Run(strings.ReplaceAll(shardFunc, "/", "-"), func(t *testing.T) {
			if shardFunc != "next-to-last/2" { // kubo's
				gate.Long(t, "the folders alone differ")
			}
			cfg := testConfig(memdir.New(t))
			cfg.ShardFunc = flatfs.PREFIX + "v1/" + shardFunc
			d, err := Open(cfg)
			require.NoError(t, err)
			m := mount.New([]mount.Mount{
				{Prefix: ds.RawKey("/"), Datastore: ds.NewMapDatastore()},
				{Prefix: ds.RawKey("/capital"), Datastore: d},
			})
			dstest.SubtestAll(t, m)
			require.NoError(t, m.Close())
			require.Empty(t, leftovers(t, cfg.Path))
		})
	}
}

// The same suite with every key going to the store, encoded as kubo encodes CIDs.
func TestConformanceOfEveryKey(t *testing.T) {
	smallSuite(t)
	d := mustOpen(t, testConfig(memdir.New(t)))
	dstest.SubtestAll(t, encodedKeys{d})
}

// encodedKeys turns any key into one that flatfs can hold.
type encodedKeys struct{ *Datastore }

func encodeKey(k ds.Key) ds.Key { return ds.NewKey(keyEncoding.EncodeToString([]byte(k.String()))) }

func decodeKey(s string) string {
	raw, err := keyEncoding.DecodeString(s[1:])
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func (e encodedKeys) Put(ctx context.Context, k ds.Key, v []byte) error {
	return e.Datastore.Put(ctx, encodeKey(k), v)
}
func (e encodedKeys) Get(ctx context.Context, k ds.Key) ([]byte, error) {
	return e.Datastore.Get(ctx, encodeKey(k))
}
func (e encodedKeys) Has(ctx context.Context, k ds.Key) (bool, error) {
	return e.Datastore.Has(ctx, encodeKey(k))
}
func (e encodedKeys) GetSize(ctx context.Context, k ds.Key) (int, error) {
	return e.Datastore.GetSize(ctx, encodeKey(k))
}
func (e encodedKeys) Delete(ctx context.Context, k ds.Key) error {
	return e.Datastore.Delete(ctx, encodeKey(k))
}
func (e encodedKeys) Batch(ctx context.Context) (ds.Batch, error) {
	b, err := e.Datastore.Batch(ctx)
	return encodedBatch{b}, err
}
func (e encodedKeys) Query(ctx context.Context, q query.Query) (query.Results, error) {
	res, err := e.Datastore.Query(ctx, query.Query{KeysOnly: q.KeysOnly, ReturnsSizes: q.ReturnsSizes})
	if err != nil {
		return nil, err
	}
	decoded := query.ResultsFromIterator(q, query.Iterator{Next: func() (query.Result, bool) {
		r, ok := res.NextSync()
		if ok && r.Error == nil {
			r.Key = decodeKey(r.Key)
		}
		return r, ok
	}})
	return query.NaiveQueryApply(q, decoded), nil
}

type encodedBatch struct{ ds.Batch }

func (b encodedBatch) Put(ctx context.Context, k ds.Key, v []byte) error {
	return b.Batch.Put(ctx, encodeKey(k), v)
}
func (b encodedBatch) Delete(ctx context.Context, k ds.Key) error {
	return b.Batch.Delete(ctx, encodeKey(k))
}

func TestParallelWriters(t *testing.T) {
	cfg := testConfig(memdir.New(t))
	d, err := Open(cfg)
	require.NoError(t, err)
	const writers, each = 16, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				// Every block is put by two writers.
				key, value := block(w/2*each + i)
				if err := d.Put(ctx, key, value); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	requireBlocks(t, d, 0, writers/2*each)
	require.NoError(t, d.Close())
	require.Empty(t, leftovers(t, cfg.Path))
	requireBlocks(t, mustOpen(t, cfg), 0, writers/2*each)
}
