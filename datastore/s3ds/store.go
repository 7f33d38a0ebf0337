package s3ds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync/atomic"

	ds "github.com/ipfs/go-datastore"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/metered"
)

// ErrClosed is returned by every call after Close.
var ErrClosed = errors.New("s3ds: the datastore is closed")

// maxValue bounds what is allocated on the word of a server: far above any block, far below what hurts.
const maxValue = 1 << 30

// Datastore keeps one value per object. Safe for concurrent use.
type Datastore struct {
	b      bucket.Bucket
	root   string // without slashes at its ends; "" for none
	slots  chan struct{}
	meter  *metered.Meter
	health health
	usage  usage
	closed atomic.Bool

	mismatches atomic.Uint64
}

var (
	_ ds.Batching            = (*Datastore)(nil)
	_ ds.PersistentDatastore = (*Datastore)(nil)
	_ ds.CheckedDatastore    = (*Datastore)(nil)
)

func newDatastore(b bucket.Bucket, c Config, meter *metered.Meter) *Datastore {
	workers := c.Workers
	if workers == 0 {
		workers = DefaultWorkers
	}
	d := &Datastore{b: b, root: cleanRoot(c.RootDirectory), slots: make(chan struct{}, workers), meter: meter}
	d.usage.list = d.measure
	return d
}

// Put implements datastore.Datastore: durable when it returns nil.
func (d *Datastore) Put(ctx context.Context, key ds.Key, value []byte) error {
	return d.request(ctx, "put", key, func() error {
		if err := d.b.Put(ctx, d.object(key), bytes.NewReader(value)); err != nil {
			return err
		}
		d.usage.put(len(value))
		return nil
	})
}

// Get implements datastore.Datastore. A value whose key is a multihash is verified; see ErrCorrupt.
func (d *Datastore) Get(ctx context.Context, key ds.Key) (value []byte, err error) {
	err = d.request(ctx, "get", key, func() error {
		value, err = d.verified(ctx, key)
		return err
	})
	if err != nil {
		return nil, err
	}
	return value, nil
}

// Has implements datastore.Datastore.
func (d *Datastore) Has(ctx context.Context, key ds.Key) (bool, error) {
	_, err := d.GetSize(ctx, key)
	if errors.Is(err, ds.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// GetSize implements datastore.Datastore.
func (d *Datastore) GetSize(ctx context.Context, key ds.Key) (size int, err error) {
	err = d.request(ctx, "head", key, func() error {
		info, err := d.b.Head(ctx, d.object(key))
		size = int(info.Size)
		return err
	})
	if err != nil {
		return -1, err
	}
	return size, nil
}

// Delete implements datastore.Datastore. A key that is not there is no error.
func (d *Datastore) Delete(ctx context.Context, key ds.Key) error {
	return d.request(ctx, "delete", key, func() error {
		if err := d.b.Delete(ctx, d.object(key)); err != nil {
			return err
		}
		d.usage.deleted(1)
		return nil
	})
}

// Sync implements datastore.Datastore. There is nothing to do, for Put and Commit return when the bucket has the data.
func (d *Datastore) Sync(ctx context.Context, _ ds.Key) error { return d.usable(ctx) }

// Close implements io.Closer. Calls in flight end as they would have; later ones return ErrClosed.
func (d *Datastore) Close() error {
	d.closed.Store(true)
	if c, ok := d.b.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// request runs one call that moves an object: within the bound of Workers, with its outcome recorded for Check, and with
// its error made one of go-datastore's.
func (d *Datastore) request(ctx context.Context, doing string, key ds.Key, call func() error) error {
	if err := d.acquire(ctx); err != nil {
		return d.failed(doing, key, err)
	}
	defer d.release()
	err := call()
	d.health.record(ctx, err)
	return d.failed(doing, key, err)
}

func (d *Datastore) failed(doing string, key ds.Key, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bucket.ErrNotFound):
		return ds.ErrNotFound // the very value, which callers compare with ==
	}
	return fmt.Errorf("s3ds: %s %s: %w", doing, key, err)
}

func (d *Datastore) acquire(ctx context.Context) error {
	if err := d.usable(ctx); err != nil {
		return err
	}
	select {
	case d.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Datastore) release() { <-d.slots }

func (d *Datastore) usable(ctx context.Context) error {
	if d.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

// object returns the name of the object that holds key: as go-ds-s3 names it, whose SDK dropped a leading slash.
func (d *Datastore) object(key ds.Key) string {
	return strings.TrimPrefix(path.Join(d.root, key.String()), "/")
}

// key is the inverse of object. It reports false for objects that are no value of this datastore: probes, and names that
// no key leads to, such as the "folder/" that the S3 console makes.
func (d *Datastore) key(object string) (ds.Key, bool) {
	name := object
	if d.root != "" {
		var ok bool
		if name, ok = strings.CutPrefix(object, d.root+"/"); !ok {
			return ds.Key{}, false
		}
	}
	if name == "" || name == reposName || strings.HasPrefix(name, probeName) || strings.HasPrefix(name, privateName) {
		return ds.Key{}, false
	}
	key := ds.NewKey(name)
	return key, d.object(key) == object
}

// cleanRoot brings rootDirectory to the form that go-ds-s3 gave it: joined as a path, without slashes at its ends.
func cleanRoot(root string) string {
	if root == "" {
		return ""
	}
	return strings.TrimPrefix(path.Join("/", root), "/")
}
