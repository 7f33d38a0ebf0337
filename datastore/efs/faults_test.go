package efs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs/faultfs"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/memdir"
)

func openFaulty(cfg Config) (*Datastore, *faultfs.FS, error) {
	f := faultfs.New(&vfs.OS{})
	d, err := open(cfg, f, f)
	return d, f, err
}

// requireReadable checks that blocks are there with the right value; others may be too.
func requireReadable(t *testing.T, d ds.Datastore, from, to int) {
	t.Helper()
	listed := keys(t, d)
	for i := from; i < to; i++ {
		key, value := block(i)
		got, err := d.Get(ctx, key)
		require.NoError(t, err, "block %d", i)
		require.Equal(t, value, got)
		require.True(t, listed[key.String()])
	}
}

// TestEveryErrorInEveryOperation has each operation of the file system fail with
// each error, before or after it took effect, in each call. The call must then
// succeed, if it did not need the operation, or return an error in which
// errors.Is finds the errno and a person finds the file; and whatever had been
// acknowledged must be there afterwards, in this store and the next.
func TestEveryErrorInEveryOperation(t *testing.T) {
	gate.Plain(t, "opens a store for each of thousands of errors")
	oldKey, oldValue := block(0)
	newKey, newValue := block(100)
	replaced := []byte("another value")
	calls := []struct {
		name string
		do   func(d *Datastore) error
		gone bool // block 0 may be gone afterwards
		now  bool // block 100 must be there if the call succeeded
	}{
		{"Put", func(d *Datastore) error { return d.Put(ctx, newKey, newValue) }, false, true},
		{"Put of a present block", func(d *Datastore) error { return d.Put(ctx, oldKey, oldValue) }, false, false},
		{"Put over another value", func(d *Datastore) error { return d.Put(ctx, oldKey, replaced) }, true, false},
		{"Commit", func(d *Datastore) error {
			b, err := d.Batch(ctx)
			if err != nil {
				return err
			}
			return errors.Join(b.Put(ctx, newKey, newValue), b.Commit(ctx))
		}, false, true},
		{"Commit of a large batch", func(d *Datastore) error {
			b, err := d.Batch(ctx)
			if err != nil {
				return err
			}
			b.(*batch).bytes = batchBytes
			return errors.Join(b.Put(ctx, newKey, newValue), b.Commit(ctx))
		}, false, true},
		{"Delete", func(d *Datastore) error { return d.Delete(ctx, oldKey) }, true, false},
		{"Delete in a row, and Sync", func(d *Datastore) error {
			d.removal.prompt = 0
			d.removal.last = time.Now()
			return errors.Join(d.Delete(ctx, oldKey), d.Sync(ctx, oldKey))
		}, true, false},
		{"Get", func(d *Datastore) error {
			got, err := d.Get(ctx, oldKey)
			if err == nil && string(got) != string(oldValue) {
				return fmt.Errorf("got %q", got)
			}
			return err
		}, false, false},
		{"Query with values", func(d *Datastore) error {
			res, err := d.Query(ctx, query.Query{})
			if err != nil {
				return err
			}
			_, err = res.Rest()
			return err
		}, false, false},
		{"Close", func(d *Datastore) error { return d.Close() }, false, false},
	}
	for _, errno := range []syscall.Errno{syscall.ESTALE, syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EACCES} {
		for _, op := range faultfs.Ops {
			for _, done := range []bool{false, true} {
				for _, call := range calls {
					name := fmt.Sprintf("%v/%s/done=%v/%s", errno, op, done, call.name)
					cfg := testConfig(memdir.New(t))
					cfg.unhashed = true // one call puts another value
					cfg.ShardFunc, cfg.Workers = "/repo/flatfs/shard/v1/suffix/1", 2
					d, err := Open(cfg)
					require.NoError(t, err)
					putBlocks(t, d, 0, 10)
					require.NoError(t, d.Close())
					d, f, err := openFaulty(cfg)
					require.NoError(t, err)
					putBlocks(t, d, 10, 11)

					var hit atomic.Bool
					f.Inject(func(o faultfs.Op, _ string) faultfs.Fault {
						if o != op {
							return faultfs.Fault{}
						}
						hit.Store(true)
						return faultfs.Fault{Err: errno, Done: done}
					})
					err = call.do(d)
					f.Inject(nil)
					if err != nil {
						require.True(t, hit.Load(), "%s: %v", name, err)
						require.ErrorIs(t, err, errno, name)
						require.ErrorContains(t, err, cfg.Path, name)
						require.NotErrorIs(t, err, ds.ErrNotFound, name)
					}
					kept := 0
					if call.gone {
						kept = 1
					}
					check := func(d *Datastore) {
						requireReadable(t, d, kept, 11)
						if call.now && err == nil {
							requireReadable(t, d, 100, 101)
						}
						// Complete or absent.
						for _, b := range []struct {
							key    ds.Key
							values []string
						}{{newKey, []string{string(newValue)}}, {oldKey, []string{string(oldValue), string(replaced)}}} {
							got, err := d.Get(ctx, b.key)
							if err != nil {
								require.ErrorIs(t, err, ds.ErrNotFound, name)
								continue
							}
							require.Contains(t, b.values, string(got), name)
						}
					}
					if call.name != "Close" {
						check(d)
						// An error of work that nobody waited for is told here at the latest.
						if cerr := d.Close(); cerr != nil {
							require.ErrorIs(t, cerr, errno, name)
						}
					}
					d, err2 := Open(cfg)
					require.NoError(t, err2, name)
					check(d)
					require.NoError(t, d.Close(), name)
					require.Empty(t, leftovers(t, cfg.Path), name)
				}
			}
		}
	}
}

// Every operation of Open fails in turn: it must say which file, or have
// succeeded with everything there.
func TestEveryErrorInOpen(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ESTALE, syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EACCES} {
		for _, indexed := range []bool{true, false} {
			cfg := testConfig(memdir.New(t))
			cfg.ShardFunc, cfg.Workers = "/repo/flatfs/shard/v1/suffix/1", 1
			d, err := Open(cfg)
			require.NoError(t, err)
			putBlocks(t, d, 0, 6)
			require.NoError(t, d.Close())
			for nth := 0; ; nth++ {
				if !indexed {
					require.NoError(t, new(vfs.OS).Remove(filepath.Join(cfg.Path, IndexFile)))
				}
				f := faultfs.New(&vfs.OS{})
				n := 0
				hit := ""
				f.Inject(func(op faultfs.Op, path string) faultfs.Fault {
					n++
					if n-1 != nth {
						return faultfs.Fault{}
					}
					hit = fmt.Sprint(op, " ", path)
					return faultfs.Fault{Err: errno}
				})
				d, err := open(cfg, f, f)
				f.Inject(nil)
				if err != nil {
					require.ErrorIs(t, err, errno, hit)
					require.ErrorContains(t, err, filepath.Dir(cfg.Path), hit)
				} else {
					requireBlocks(t, d, 0, 6)
					require.NoError(t, d.Close())
				}
				d = mustReopen(t, cfg)
				requireBlocks(t, d, 0, 6)
				require.NoError(t, d.Close())
				if hit == "" {
					require.Greater(t, nth, 20)
					break
				}
			}
		}
	}
}

func mustReopen(t *testing.T, cfg Config) *Datastore {
	t.Helper()
	d, err := Open(cfg)
	require.NoError(t, err)
	return d
}

// An operator reads what to do.
func TestErrorsSayWhatToDo(t *testing.T) {
	for errno, advice := range map[syscall.Errno]string{
		syscall.ENOSPC: "repo gc", syscall.EDQUOT: "quota", syscall.EACCES: "access point", syscall.ESTALE: "restart", syscall.EIO: "mount target",
	} {
		cfg := testConfig(memdir.New(t))
		d, f, err := openFaulty(cfg)
		require.NoError(t, err)
		f.Inject(func(op faultfs.Op, _ string) faultfs.Fault {
			if op == faultfs.Create {
				return faultfs.Fault{Err: errno}
			}
			return faultfs.Fault{}
		})
		key, value := block(1)
		err = d.Put(ctx, key, value)
		require.ErrorContains(t, err, advice)
		require.ErrorContains(t, err, key.String()[1:])
		f.Inject(nil)
		require.NoError(t, d.Close())
	}
}

// A file handle goes stale when somebody replaces the file: the name leads to the new one.
func TestStaleHandleIsOpenedAgain(t *testing.T) {
	cfg := testConfig(memdir.New(t))
	d := mustReopen(t, cfg)
	putBlocks(t, d, 0, 1)
	require.NoError(t, d.Close())
	d, f, err := openFaulty(cfg)
	require.NoError(t, err)
	n := 0
	f.Inject(func(op faultfs.Op, _ string) faultfs.Fault {
		if op == faultfs.Read && n == 0 {
			n++
			return faultfs.Fault{Err: syscall.ESTALE}
		}
		return faultfs.Fault{}
	})
	requireBlocks(t, d, 0, 1)
	require.Equal(t, 1, n)
	require.NoError(t, d.Close())
}

// An error of a delete that was acknowledged: the block is back, Sync tells, and tells once.
func TestDeleteThatFailsLater(t *testing.T) {
	cfg := testConfig(memdir.New(t))
	d, f, err := openFaulty(cfg)
	require.NoError(t, err)
	putBlocks(t, d, 0, 40)
	fail, _ := block(30)
	f.Inject(func(op faultfs.Op, path string) faultfs.Fault {
		if op == faultfs.Remove && strings.Contains(path, fail.String()[1:]) {
			return faultfs.Fault{Err: syscall.EACCES}
		}
		return faultfs.Fault{}
	})
	for i := range 40 {
		key, _ := block(i)
		require.NoError(t, d.Delete(ctx, key))
	}
	err = d.CollectGarbage(ctx)
	require.ErrorIs(t, err, syscall.EACCES)
	require.ErrorContains(t, err, fail.String()[1:])
	require.NoError(t, d.Sync(ctx, ds.NewKey("/")))
	requireBlocks(t, d, 30, 31)
	f.Inject(nil)
	require.NoError(t, d.Delete(ctx, fail))
	require.Empty(t, keys(t, d))
	require.NoError(t, d.Close())
}

// Whatever runs out, a slow file system is waited for and not run over: no
// more temporary files are open than there are workers.
func TestWritesAreBounded(t *testing.T) {
	cfg := testConfig(memdir.New(t))
	cfg.Workers = 3
	d, f, err := openFaulty(cfg)
	require.NoError(t, err)
	var open, most atomic.Int64
	f.Inject(func(op faultfs.Op, path string) faultfs.Fault {
		switch op {
		case faultfs.Write:
			most.Store(max(most.Load(), open.Add(1)))
		case faultfs.Rename:
			open.Add(-1)
		}
		return faultfs.Fault{}
	})
	b, err := d.Batch(ctx)
	require.NoError(t, err)
	putBlocks(t, batchStore{d, b}, 0, 100)
	require.NoError(t, b.Commit(ctx))
	f.Inject(nil)
	require.LessOrEqual(t, most.Load(), int64(3))
	require.NoError(t, d.Close())
}
