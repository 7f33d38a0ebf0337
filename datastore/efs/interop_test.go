package efs

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ds "github.com/ipfs/go-datastore"
	flatfs "github.com/ipfs/go-ds-flatfs"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/memdir"
)

func putBlocks(t *testing.T, d ds.Datastore, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		key, value := block(i)
		require.NoError(t, d.Put(ctx, key, value))
	}
}

func openStock(t *testing.T, path string) *flatfs.Datastore {
	t.Helper()
	d, err := flatfs.Open(path, true)
	require.NoError(t, err)
	return d
}

// A store goes to and fro between stock flatfs and efs; both write, both delete, both batch.
func TestBothWaysWithStockFlatfs(t *testing.T) {
	for _, shardFunc := range []*flatfs.ShardIdV1{flatfs.NextToLast(2), flatfs.Prefix(5), flatfs.Suffix(1)} {
		t.Run(strings.ReplaceAll(strings.TrimPrefix(shardFunc.String(), flatfs.PREFIX), "/", "-"), func(t *testing.T) {
			cfg := testConfig(memdir.New(t))
			cfg.ShardFunc = shardFunc.String()
			stock, err := flatfs.CreateOrOpen(cfg.Path, shardFunc, true)
			require.NoError(t, err)
			putBlocks(t, stock, 0, 30)
			require.NoError(t, stock.Close())

			for round := range 3 {
				from := 30 + 20*round
				d, err := Open(cfg)
				require.NoError(t, err)
				requireBlocks(t, d, 2*round, from)
				putBlocks(t, d, from, from+5)
				b, err := d.Batch(ctx)
				require.NoError(t, err)
				putBlocks(t, batchStore{d, b}, from+5, from+10)
				key, _ := block(2 * round)
				require.NoError(t, b.Delete(ctx, key))
				require.NoError(t, b.Commit(ctx))
				requireBlocks(t, d, 2*round+1, from+10)
				require.NoError(t, d.Close())

				stock := openStock(t, cfg.Path)
				requireBlocks(t, stock, 2*round+1, from+10)
				b, err = stock.Batch(ctx)
				require.NoError(t, err)
				putBlocks(t, batchStore{stock, b}, from+10, from+20)
				require.NoError(t, b.Commit(ctx))
				key, _ = block(2*round + 1)
				require.NoError(t, stock.Delete(ctx, key))
				require.NoError(t, stock.Close())
			}
		})
	}
}

// batchStore lets putBlocks write into a batch.
type batchStore struct {
	ds.Datastore
	batch ds.Batch
}

func (b batchStore) Put(ctx context.Context, k ds.Key, v []byte) error { return b.batch.Put(ctx, k, v) }

// A store that efs made has what stock makes, byte for byte.
func TestNewStoreIsWhatStockMakes(t *testing.T) {
	dir := memdir.New(t)
	stockPath := filepath.Join(dir, "stock")
	require.NoError(t, flatfs.Create(stockPath, flatfs.IPFS_DEF_SHARD))
	cfg := testConfig(dir)
	d, err := Open(cfg)
	require.NoError(t, err)
	require.NoError(t, d.Close())
	for _, name := range []string{flatfs.SHARDING_FN, flatfs.README_FN} {
		want, err := os.ReadFile(filepath.Join(stockPath, name))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(cfg.Path, name))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), name)
	}
}

// What efs says it uses is what stock counts when it walks the tree. It is on
// disk: a directory in memory grows by 20 bytes with every entry, so that the
// two counts would differ by the temporary files of the moment.
func TestDiskUsageIsWhatStockCounts(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.IndexPath = filepath.Join(filepath.Dir(cfg.Path), "index")
	d, err := Open(cfg)
	require.NoError(t, err)
	putBlocks(t, d, 0, 200)
	for i := range 50 {
		key, _ := block(i)
		require.NoError(t, d.Delete(ctx, key))
	}
	key, _ := block(60)
	require.NoError(t, d.Put(ctx, key, make([]byte, 12345))) // replaced
	require.NoError(t, d.Sync(ctx, ds.NewKey("/")))
	used, err := d.DiskUsage(ctx)
	require.NoError(t, err)
	require.NoError(t, d.Close())

	// Believed by stock, and by the next efs.
	stock := openStock(t, cfg.Path)
	got, err := stock.DiskUsage(ctx)
	require.NoError(t, err)
	require.Equal(t, used, got)
	require.NoError(t, stock.Close())

	// Counted by both from the start.
	require.NoError(t, os.Remove(filepath.Join(cfg.Path, flatfs.DiskUsageFile)))
	stock = openStock(t, cfg.Path)
	counted, err := stock.DiskUsage(ctx)
	require.NoError(t, err)
	require.NoError(t, stock.Close())
	require.NoError(t, os.Remove(filepath.Join(cfg.Path, flatfs.DiskUsageFile)))
	d, err = Open(cfg)
	require.NoError(t, err)
	used, err = d.DiskUsage(ctx)
	require.NoError(t, err)
	require.Equal(t, counted, used)
	require.NoError(t, d.Close())
}

func TestStockSweepsWhatAKilledEFSLeaves(t *testing.T) {
	cfg := testConfig(memdir.New(t))
	d, err := Open(cfg)
	require.NoError(t, err)
	putBlocks(t, d, 0, 10)
	require.NoError(t, d.Close())
	shard := filepath.Join(cfg.Path, "AA")
	if err := os.Mkdir(shard, 0o755); err != nil {
		require.ErrorIs(t, err, os.ErrExist)
	}
	left := filepath.Join(shard, newTempName())
	require.NoError(t, os.WriteFile(left, []byte("half a blo"), 0o600))
	spare := filepath.Join(cfg.Path, tempDir, newTempName())
	require.NoError(t, os.WriteFile(spare, nil, 0o600))

	stock := openStock(t, cfg.Path)
	requireBlocks(t, stock, 0, 10) // the half block is not listed
	require.NoError(t, stock.Close())
	require.NoFileExists(t, spare)

	d = mustOpen(t, cfg)
	requireBlocks(t, d, 0, 10)
	require.NoFileExists(t, left)
}

// Files that are no blocks, or not where their key leads to, are left alone and not listed.
func TestOtherPeoplesFiles(t *testing.T) {
	cfg := testConfig(memdir.New(t))
	d, err := Open(cfg)
	require.NoError(t, err)
	putBlocks(t, d, 0, 5)
	require.NoError(t, d.Close())
	shard := filepath.Join(cfg.Path, "QQ")
	if err := os.Mkdir(shard, 0o755); err != nil {
		require.ErrorIs(t, err, os.ErrExist)
	}
	others := []string{".nfs0000000001", "put-123", "lower.data", "XYZ.data", "note.txt"}
	for _, name := range others {
		require.NoError(t, os.WriteFile(filepath.Join(shard, name), []byte("x"), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(shard, "AQQA.data"), 0o755))
	d = mustOpen(t, cfg)
	requireBlocks(t, d, 0, 5)
	for _, name := range others {
		require.FileExists(t, filepath.Join(shard, name))
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := memdir.New(t)
	cfg := testConfig(dir)
	d, err := Open(cfg)
	require.NoError(t, err)
	require.NoError(t, d.Close())

	other := cfg
	other.ShardFunc = "/repo/flatfs/shard/v1/prefix/2"
	_, err = Open(other)
	require.ErrorContains(t, err, "next-to-last/2")
	require.ErrorContains(t, err, "prefix/2")

	full := testConfig(filepath.Join(dir, "full"))
	require.NoError(t, os.MkdirAll(full.Path, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(full.Path, "thesis.doc"), nil, 0o600))
	_, err = Open(full)
	require.ErrorContains(t, err, "thesis.doc")
	require.NoFileExists(t, filepath.Join(full.Path, flatfs.SHARDING_FN))

	_, err = Open(testConfig(filepath.Join(dir, "no", "such")))
	require.ErrorIs(t, err, os.ErrNotExist)

	index := testConfig(memdir.New(t))
	index.IndexPath = filepath.Join(dir, "nowhere", "index")
	_, err = Open(index)
	require.ErrorContains(t, err, "indexPath")
	require.ErrorIs(t, err, os.ErrNotExist)

	local := testConfig(memdir.New(t))
	local.NamesDurable = true
	_, err = Open(local)
	require.ErrorContains(t, err, "namesDurable")

	require.NoError(t, os.WriteFile(filepath.Join(cfg.Path, flatfs.SHARDING_FN), nil, 0o600))
	_, err = Open(cfg)
	require.ErrorContains(t, err, flatfs.SHARDING_FN)
}

func TestClosedStore(t *testing.T) {
	d, err := Open(testConfig(memdir.New(t)))
	require.NoError(t, err)
	key, value := block(0)
	b, err := d.Batch(ctx)
	require.NoError(t, err)
	require.NoError(t, b.Put(ctx, key, value))
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	_, err = d.Get(ctx, key)
	require.ErrorIs(t, err, ErrClosed)
	_, err = d.Has(ctx, key)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, d.Put(ctx, key, value), ErrClosed)
	require.ErrorIs(t, d.Delete(ctx, key), ErrClosed)
	require.ErrorIs(t, d.Sync(ctx, key), ErrClosed)
	require.ErrorIs(t, b.Commit(ctx), ErrClosed)
	_, err = d.DiskUsage(ctx)
	require.ErrorIs(t, err, ErrClosed)
}

func TestCancelledContext(t *testing.T) {
	d := mustOpen(t, testConfig(memdir.New(t)))
	putBlocks(t, d, 0, 1)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	key, value := block(0)
	other, otherValue := block(1)
	_, err := d.Get(gone, key)
	require.ErrorIs(t, err, gone.Err())
	_, err = d.Has(gone, key)
	require.ErrorIs(t, err, gone.Err())
	_, err = d.GetSize(gone, key)
	require.ErrorIs(t, err, gone.Err())
	require.ErrorIs(t, d.Put(gone, other, otherValue), gone.Err())
	require.ErrorIs(t, d.Delete(gone, key), gone.Err())
	require.ErrorIs(t, d.Sync(gone, key), gone.Err())
	b, err := d.Batch(ctx)
	require.NoError(t, err)
	require.ErrorIs(t, b.Put(gone, other, otherValue), gone.Err())
	require.NoError(t, b.Put(ctx, other, otherValue))
	require.ErrorIs(t, b.Commit(gone), gone.Err())
	requireBlocks(t, d, 0, 1)
	got, err := d.Get(ctx, key)
	require.NoError(t, err)
	require.Equal(t, value, got)
}
