package efs

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"sync/atomic"

	flatfs "github.com/ipfs/go-ds-flatfs"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

// usage is what the store takes, in bytes, as stock flatfs counts it: the sizes
// of all files and directories of the tree, whatever the file system rounds
// them up to. It is counted anew by every Open, from what the index knows.
type usage struct {
	used     atomic.Int64
	index    atomic.Int64 // the index file's part, if it is in the store
	written  atomic.Int64 // what diskUsage.cache says
	emptyDir int64        // a new directory's own size
}

// The file diskUsage.cache is for stock flatfs, which believes it at its next
// open. Written at Close, it is exact; for the case of a crash it is also
// written when it is wrong by as much as stock lets it be, 1 %, but no sooner than
// after 4 MiB, which is one such write per 16 blocks of 256 KiB at most.
const (
	usageDrift    = 100 // 1/100
	usageMinDrift = 4 << 20
)

func (u *usage) add(n int64) { u.used.Add(n) }

func (u *usage) total() int64 { return u.used.Load() + u.index.Load() }

// drifted reports whether diskUsage.cache is too far off.
func (u *usage) drifted() bool {
	written := u.written.Load()
	diff := u.total() - written
	if diff < 0 {
		diff = -diff
	}
	return diff > max(written/usageDrift, usageMinDrift)
}

// DiskUsage returns the bytes of all files and directories of the store.
func (d *Datastore) DiskUsage(context.Context) (uint64, error) {
	if err := d.enter(); err != nil {
		return 0, err
	}
	defer d.leave()
	return uint64(max(d.usage.total(), 0)), nil
}

// usageFile is the content of diskUsage.cache.
type usageFile struct {
	DiskUsage int64  `json:"diskUsage"`
	Accuracy  string `json:"accuracy"`
}

// writeUsage brings diskUsage.cache up to date.
func (d *Datastore) writeUsage() error {
	total := d.usage.total()
	if total == d.usage.written.Load() {
		return nil
	}
	data, err := json.Marshal(usageFile{DiskUsage: total, Accuracy: "initial-exact"})
	if err != nil {
		return err
	}
	err = writeFile(d.fsys, filepath.Join(d.cfg.Path, newTempName()), d.usagePath(), append(data, '\n'))
	if err != nil {
		return explain("write disk usage", err)
	}
	d.usage.written.Store(total)
	return nil
}

// readUsage notes what diskUsage.cache says. Nothing is done with it but to
// leave it alone if it is right: any damage is repaired by writing it.
func (d *Datastore) readUsage() error {
	data, err := vfs.ReadAll(d.fsys, d.usagePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain("read disk usage", err)
	}
	var file usageFile
	if json.Unmarshal(data, &file) == nil {
		d.usage.written.Store(file.DiskUsage)
	}
	return nil
}

func (d *Datastore) usagePath() string { return filepath.Join(d.cfg.Path, flatfs.DiskUsageFile) }
