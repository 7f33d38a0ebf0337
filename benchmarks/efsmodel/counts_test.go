package efsmodel

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"path/filepath"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	flatfs "github.com/ipfs/go-ds-flatfs"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs"
)

// These tests say what the efs blockstore asks of the file system, and what
// stock flatfs asks for the same, in requests. They are exact, and know no time.

var ctx = context.Background()

func testBlock(n, size int) (ds.Key, []byte) {
	value := make([]byte, size)
	binary.LittleEndian.PutUint64(value, uint64(n))
	sum := sha256.Sum256(value)
	mh := append([]byte{0x12, 0x20}, sum[:]...)
	return ds.NewKey(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(mh)), value
}

func put(t testing.TB, d ds.Datastore, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		key, value := testBlock(i, 4096)
		require.NoError(t, d.Put(ctx, key, value))
	}
}

func openEFS(t testing.TB, dir string) *efs.Datastore {
	t.Helper()
	d, err := efs.Open(efs.Config{
		Path: filepath.Join(dir, "blocks"), ShardFunc: "/repo/flatfs/shard/v1/prefix/3",
		NamesDurable: true, // as on NFS, which the model stands for
	})
	require.NoError(t, err)
	return d
}

func TestRequestsOfPut(t *testing.T) {
	m, dir := mountForTest(t)
	d := openEFS(t, dir)
	put(t, d, 0, 20)
	require.NoError(t, d.Close()) // the shard and the index are there
	d = openEFS(t, dir)
	const n = 50
	got := requests(t, m, func() {
		put(t, d, 20, 20+n)
		require.NoError(t, d.Close())
	})
	// Each block is created (here or ahead), written, renamed and closed. Beyond
	// that there are up to 4 spares and their 2 directories; and Close looks at the
	// one shard and writes the index, the disk usage and the marker. What the lock's file
	// says of its holder, written at the open, goes to the server with its close.
	require.EqualValues(t, n+3, got[Write], "%v", got)
	require.EqualValues(t, n+3, got[Rename], "%v", got)
	require.GreaterOrEqual(t, got[Create], int64(n+3), "%v", got)
	require.LessOrEqual(t, got[Create], int64(n+3+4+2), "%v", got)
	require.LessOrEqual(t, got[Close], int64(n+3+4+1), "%v", got)
	require.LessOrEqual(t, got[Remove], int64(4), "%v", got)
	require.LessOrEqual(t, got[Getattr]+got[Lookup]+got[Readdir], int64(5), "%v", got)
	require.Zero(t, got[Open]+got[Read]+got[Setattr], "%v", got)

	stock, err := flatfs.CreateOrOpen(filepath.Join(dir, "stock"), flatfs.Prefix(3), true)
	require.NoError(t, err)
	put(t, stock, 0, 20)
	var total int64
	for _, count := range requests(t, m, func() { put(t, stock, 20, 20+n) }) {
		total += count
	}
	require.NoError(t, stock.Close())
	require.GreaterOrEqual(t, total, int64(8*n), "stock flatfs asks for less than it used to: compare anew")
}

func TestRequestsOfAPresentBlock(t *testing.T) {
	m, dir := mountForTest(t)
	d := openEFS(t, dir)
	put(t, d, 0, 20)
	require.NoError(t, d.Close())
	d = openEFS(t, dir)
	got := requests(t, m, func() { put(t, d, 0, 20) })
	require.EqualValues(t, 20, got[Open])
	require.LessOrEqual(t, got[Read], int64(20), "what is still in the page cache is not read again")
	require.Zero(t, got[Write]+got[Create]+got[Rename])
	require.NoError(t, d.Close())
}

func TestHasGetSizeAndQueryAskNothing(t *testing.T) {
	m, dir := mountForTest(t)
	d := openEFS(t, dir)
	put(t, d, 0, 50)
	require.NoError(t, d.Close())
	d = openEFS(t, dir)
	got := requests(t, m, func() {
		for i := range 100 {
			key, value := testBlock(i, 4096)
			has, err := d.Has(ctx, key)
			require.NoError(t, err)
			require.Equal(t, i < 50, has)
			size, err := d.GetSize(ctx, key)
			if i < 50 {
				require.NoError(t, err)
				require.Equal(t, len(value), size)
			} else {
				require.ErrorIs(t, err, ds.ErrNotFound)
				_, err = d.Get(ctx, key)
				require.ErrorIs(t, err, ds.ErrNotFound)
			}
		}
		res, err := d.Query(ctx, query.Query{KeysOnly: true, ReturnsSizes: true})
		require.NoError(t, err)
		entries, err := res.Rest()
		require.NoError(t, err)
		require.Len(t, entries, 50)
		_, err = d.DiskUsage(ctx)
		require.NoError(t, err)
	})
	require.Empty(t, got)
	require.NoError(t, d.Close())
}

func TestRequestsOfDelete(t *testing.T) {
	m, dir := mountForTest(t)
	d := openEFS(t, dir)
	put(t, d, 0, 100)
	got := requests(t, m, func() {
		for i := range 100 {
			key, _ := testBlock(i, 4096)
			require.NoError(t, d.Delete(ctx, key))
		}
		require.NoError(t, d.Sync(ctx, ds.NewKey("/")))
	})
	require.EqualValues(t, 100, got[Remove])
	require.NoError(t, d.Close())
}

func TestRequestsOfOpen(t *testing.T) {
	m, dir := mountForTest(t)
	cfg := efs.Config{Path: filepath.Join(dir, "blocks"), ShardFunc: "/repo/flatfs/shard/v1/next-to-last/1", NamesDurable: true}
	d, err := efs.Open(cfg)
	require.NoError(t, err)
	put(t, d, 0, 500) // in 32 shards
	require.NoError(t, d.Close())

	// One request for each shard, and those for the store's own few files.
	got := requests(t, m, func() {
		d, err = efs.Open(cfg)
		require.NoError(t, err)
	})
	require.InDelta(t, 32+2, got[Getattr], 12, "%v", got)
	require.LessOrEqual(t, got[Readdir], int64(2), "%v", got)
	require.LessOrEqual(t, got[Lookup]+got[Open]+got[Create]+got[Remove]+got[Read], int64(16), "%v", got)
	require.NoError(t, d.Close())

	// Stock has written: the shards that it wrote to are read again, no others.
	stock, err := flatfs.Open(cfg.Path, true)
	require.NoError(t, err)
	key, value := testBlock(1000, 4096)
	require.NoError(t, stock.Put(ctx, key, value))
	require.NoError(t, stock.Close())
	// Stock leaves no marker: shards that are too young are read again as well.
	requests(t, m, func() {
		d, err = efs.Open(cfg)
		require.NoError(t, err)
		has, err := d.Has(ctx, key)
		require.NoError(t, err)
		require.True(t, has)
		require.NoError(t, d.Close())
	})
}
