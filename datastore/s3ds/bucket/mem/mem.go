// Package mem is a bucket in memory, for tests. It keeps every promise of package bucket at the cost of no request, and
// forgets everything when it is dropped.
package mem

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// pageSize is the number of objects that S3 returns per LIST request.
const pageSize = 1000

// Bucket is a bucket.Bucket in memory. Safe for concurrent use.
type Bucket struct {
	// Now is the clock of the server, to be set before the first call; time.Now by default. It is read to the second, as servers tell it.
	Now func() time.Time

	mu      sync.RWMutex
	objects map[string]object
}

type object struct {
	data     []byte
	modified time.Time
}

var _ bucket.Conditional = (*Bucket)(nil)

// New returns an empty bucket.
func New() *Bucket { return &Bucket{Now: time.Now, objects: map[string]object{}} }

// Put implements bucket.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReadSeeker) error {
	_, err := b.put(ctx, key, body, func(object, bool) bool { return true })
	return err
}

// PutIf implements bucket.Conditional.
func (b *Bucket) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (bucket.Info, error) {
	return b.put(ctx, key, body, func(o object, there bool) bool {
		if cond.Absent {
			return !there
		}
		return there && o.info(key).ETag == cond.ETag
	})
}

func (b *Bucket) put(ctx context.Context, key string, body io.ReadSeeker, allowed func(object, bool) bool) (bucket.Info, error) {
	if err := ctx.Err(); err != nil {
		return bucket.Info{}, err
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return bucket.Info{}, fmt.Errorf("read the body of %q: %w", key, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, there := b.objects[key]; !allowed(old, there) {
		return bucket.Info{}, fault(bucket.OpPut, key, bucket.ErrPreconditionFailed)
	}
	o := object{data, b.clock()}
	b.objects[key] = o
	return b.described(key, o), nil
}

// Clone returns a bucket that holds at first what b holds now, and has the same clock.
func (b *Bucket) Clone() *Bucket {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return &Bucket{Now: b.Now, objects: maps.Clone(b.objects)}
}

func (b *Bucket) clock() time.Time { return b.Now().UTC().Truncate(time.Second) }

// described is what an answer says about an object.
func (b *Bucket) described(key string, o object) bucket.Info {
	i := o.info(key)
	i.Clock = b.clock()
	return i
}

// Get implements bucket.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, r bucket.Range) (io.ReadCloser, bucket.Info, error) {
	if err := ctx.Err(); err != nil {
		return nil, bucket.Info{}, err
	}
	b.mu.RLock()
	o, ok := b.objects[key]
	b.mu.RUnlock()
	if !ok {
		return nil, bucket.Info{}, fault(bucket.OpGet, key, bucket.ErrNotFound)
	}
	n, err := r.Clip(int64(len(o.data)))
	if err != nil {
		return nil, bucket.Info{}, fault(bucket.OpGet, key, err)
	}
	body := &reader{ctx: ctx, Reader: bytes.NewReader(o.data[r.Offset : r.Offset+n])}
	return body, b.described(key, o), nil
}

// Head implements bucket.Bucket.
func (b *Bucket) Head(ctx context.Context, key string) (bucket.Info, error) {
	if err := ctx.Err(); err != nil {
		return bucket.Info{}, err
	}
	b.mu.RLock()
	o, ok := b.objects[key]
	b.mu.RUnlock()
	if !ok {
		return bucket.Info{}, fault(bucket.OpHead, key, bucket.ErrNotFound)
	}
	return b.described(key, o), nil
}

// List implements bucket.Bucket. Each page is a consistent snapshot.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		for {
			if err := ctx.Err(); err != nil {
				yield(bucket.Info{}, err)
				return
			}
			page, more := b.page(prefix, after)
			for _, i := range page {
				if !yield(i, nil) {
					return
				}
				after = i.Key
			}
			if !more {
				return
			}
		}
	}
}

func (b *Bucket) page(prefix, after string) (page []bucket.Info, more bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var keys []string
	for k := range b.objects {
		if strings.HasPrefix(k, prefix) && k > after {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	more = len(keys) > pageSize
	for _, k := range keys[:min(len(keys), pageSize)] {
		page = append(page, b.objects[k].info(k))
	}
	return page, more
}

// Delete implements bucket.Bucket.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		delete(b.objects, k)
	}
	return nil
}

// Check implements bucket.Bucket.
func (b *Bucket) Check(ctx context.Context) error { return ctx.Err() }

func (o object) info(key string) bucket.Info {
	sum := md5.Sum(o.data)
	return bucket.Info{Key: key, Size: int64(len(o.data)), ETag: `"` + hex.EncodeToString(sum[:]) + `"`, Modified: o.modified}
}

func fault(op bucket.Op, key string, kind error) error {
	return &bucket.Error{Op: op, Bucket: "memory", Key: key, Kind: kind}
}

type reader struct {
	ctx context.Context
	*bytes.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// WriteTo would let io.Copy pass by Read, and with it the context.
func (r *reader) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{r}) }

func (r *reader) Close() error { return nil }
