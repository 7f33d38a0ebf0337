package s3ds

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// Destroy removes a store that nobody needs any more: all packs and blocks directly under the prefix, then the owner, then journal, index and
// cache on the local disk. Objects of other kinds, and those in folders below the prefix, are left alone. The store must not be open
// anywhere: a prefix that another node owns is refused, as is a journal that a process has locked. Broken off, it may be called again. progress, which
// may be nil, is told how many objects were removed. Cost: 1 LIST, 1 GET and 1 DELETE per 1,000 objects, and what opening the store costs.
func Destroy(ctx context.Context, c Config, repo string, progress func(objects int64)) error {
	d, indexed, err := connectIn(ctx, c, repo)
	if err != nil {
		return fmt.Errorf("s3ds: remove the store: %w", err)
	}
	defer func() { _ = d.Close() }() // nothing is held back
	c = c.withPackDefaults(repo)
	if err := d.destroy(ctx, c, indexed, progress); err != nil {
		return fmt.Errorf("s3ds: remove the store: %w", err)
	}
	for _, dir := range []string{c.JournalPath, c.IndexPath, c.CachePath} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("s3ds: remove the store: %w", err)
		}
	}
	if parent := filepath.Dir(c.JournalPath); parent != filepath.Clean(repo) && parent == filepath.Dir(c.IndexPath) {
		_ = os.Remove(parent) // fails if there is something else in it
	}
	return nil
}

func (d *Datastore) destroy(ctx context.Context, c Config, indexed bool, progress func(int64)) (err error) {
	prefix := d.prefix("")
	hold := func() error { return nil }
	var f *fence
	if indexed {
		n, err := openNode(vfs.Default, c.JournalPath)
		if err != nil {
			return err
		}
		defer func() { _ = n.lock.Close() }() // it goes with the folder
		f, err = openFence(ctx, d.b, fenceOptions{prefix: prefix, node: n, host: "removes it", takeOver: c.TakeOver, life: ctx})
		if err != nil {
			return err
		}
		defer func() {
			if err != nil {
				f.close(context.WithoutCancel(ctx)) // for the next attempt, from wherever it comes
			}
		}()
		hold = func() error { return f.explain(f.c.Confirm(ctx)) }
	}
	var some []string
	var removed int64
	flush := func() error {
		if len(some) == 0 {
			return nil
		}
		if err := hold(); err != nil {
			return err
		}
		if err := d.b.Delete(ctx, some...); err != nil {
			return err
		}
		removed += int64(len(some))
		some = some[:0]
		if progress != nil {
			progress(removed)
		}
		return nil
	}
	for info, err := range d.b.List(ctx, prefix, "") {
		if err != nil {
			return err
		}
		if !d.belongs(strings.TrimPrefix(info.Key, prefix)) {
			continue
		}
		if some = append(some, info.Key); len(some) == deleteBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil || !indexed {
		return err
	}
	// The records of the chain after all else: until then they keep other nodes out.
	var private []string
	for info, err := range d.b.List(ctx, prefix+privateName, "") {
		if err != nil {
			return err
		}
		private = append(private, info.Key)
	}
	f.c.Abandon()
	return d.b.Delete(ctx, append(private, prefix+ownerName)...)
}

// belongs reports whether an object directly under the prefix was made by a store of ours.
func (d *Datastore) belongs(under string) bool {
	if _, err := pack.ParseName(under); err == nil || under == reposName || strings.HasPrefix(under, probeName) {
		return true
	}
	if strings.Contains(under, "/") {
		return false
	}
	key, ours := d.key(d.prefix("") + under)
	if !ours {
		return false
	}
	_, h := nameOf(key)
	return h != nil
}
