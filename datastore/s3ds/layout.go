package s3ds

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// OpenIn opens the store that c describes, in the layout that it names. repo is the folder at which relative paths start; progress, which may be
// nil, is told how far an index is that has to be made.
//
// Either layout serves what the other one wrote. Layout objects needs nothing on the local disk for that as long as there are no packs
// under the prefix, which one LIST at the start tells: then it is a Datastore. Where there are packs, or have been, it is a Packed that writes
// one object per block.
func OpenIn(ctx context.Context, c Config, repo string, progress func(Progress)) (Store, error) {
	d, indexed, err := connectIn(ctx, c, repo)
	if err != nil {
		return nil, fmt.Errorf("open s3ds: %w", err)
	}
	if !indexed {
		return d, nil
	}
	p, err := openPacked(ctx, d, c, repo, parts{fs: vfs.Default}, progress)
	if err != nil { // not p: a nil *Packed would become a Store that is not nil
		return nil, fmt.Errorf("open s3ds: %w", err)
	}
	return p, nil
}

// connectIn connects to the bucket, and reports whether blocks are to be found by an index. Cost: nothing with layout packs, whose
// first request is for the owner; 1 HEAD and 1 LIST with layout objects, or 1 HEAD if this repo had packs before.
func connectIn(ctx context.Context, c Config, repo string) (_ *Datastore, indexed bool, err error) {
	d, err := connect(ctx, c)
	if err != nil || c.Layout == LayoutPacks {
		return d, true, err
	}
	if err = d.b.Check(ctx); err == nil {
		indexed, err = d.hasPacks(ctx, vfs.Default, c.withPackDefaults(repo))
	}
	if err != nil {
		_ = d.Close() // nothing was written
		return nil, false, err
	}
	return d, indexed, nil
}

// hasPacks reports whether there are, or may be, blocks that are not objects of their own: in the journal of this repo, for which it asks
// nothing, or in packs under the prefix. A prefix that has an owner counts as well: packs of that one may be under way.
//
// A list shows the owner first, and then the packs, whose names begin with the digit 0 until the year 2527; blocks begin with a letter
// or a digit from 2 on. So the first page tells, unless somebody keeps more than 1,000 objects of another kind in front of them.
func (d *Datastore) hasPacks(ctx context.Context, fs vfs.FS, c Config) (bool, error) {
	if _, err := fs.Stat(filepath.Join(c.JournalPath, nodeFile)); err == nil {
		return true, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("look for a journal: %w", err)
	}
	prefix := d.prefix("")
	for info, err := range d.b.List(ctx, prefix, "") {
		if err != nil {
			d.health.record(ctx, err)
			return false, fmt.Errorf("look for packs: %w", err)
		}
		name := strings.TrimPrefix(info.Key, prefix)
		if _, err := pack.ParseName(name); err == nil || name == ownerName || strings.HasPrefix(name, privateName) {
			return true, nil
		}
		if name >= "1" {
			return false, nil
		}
	}
	return false, nil
}
