package s3ds

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/metered"
	s3bucket "github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/s3"
)

// Open connects to the bucket of c and returns the datastore in it. It fails if the settings are wrong, if there are no
// credentials, or if the bucket does not answer to them; the error is one of package bucket's. Cost: one HEAD request.
func Open(ctx context.Context, c Config) (*Datastore, error) {
	d, err := connect(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open s3ds: %w", err)
	}
	if err := d.b.Check(ctx); err != nil {
		_ = d.Close() // nothing was written
		return nil, fmt.Errorf("open s3ds: %w", err)
	}
	return d, nil
}

func connect(ctx context.Context, c Config) (*Datastore, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	meter := metered.NewMeter()
	o := c.options()
	o.Observe = meter.Observe
	b, err := s3bucket.New(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := b.Credentials(ctx); err != nil {
		return nil, err
	}
	return newDatastore(metered.Wrap(b, meter), c, meter), nil
}

// New returns a datastore in a bucket that is already there, for tests and for decorated buckets. Of c, only RootDirectory and
// Workers are looked at. Nothing is asked of the bucket.
func New(b bucket.Bucket, c Config) *Datastore {
	meter := metered.NewMeter()
	return newDatastore(metered.Wrap(b, meter), c, meter)
}

// probeName begins the names of the objects that Probe writes; queries do not show them.
const probeName = ".ipfs-aws-probe-"

// Probe checks that c can be worked with before anything is built on it: that there are credentials, that the bucket exists in
// that region, and that objects under RootDirectory can be listed, written, read back and removed. The first thing that
// fails is returned as one line with the fix. It leaves nothing behind. Cost: 2 HEAD, 1 LIST, 1 PUT, 1 GET, 1 DELETE; for layout packs
// 4 PUT, 1 GET, 1 DELETE more.
func Probe(ctx context.Context, c Config) error {
	d, err := connect(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if err := probe(ctx, d.b, d.root); err != nil || c.Layout != LayoutPacks {
		return err
	}
	return probeConditions(ctx, d.b, d.root)
}

// probeConditions checks what layout packs needs besides: that the server refuses a put whose condition does not hold, and tells the time.
func probeConditions(ctx context.Context, b bucket.Bucket, root string) (err error) {
	key := path.Join(root, probeName+rand.Text())
	defer func() {
		if gone := b.Delete(context.WithoutCancel(ctx), key); gone != nil && err == nil {
			err = fmt.Errorf("remove the probe object %q: %w", key, gone)
		}
	}()
	made, err := bucket.PutIf(ctx, b, key, bytes.NewReader([]byte("1")), bucket.Condition{Absent: true})
	if err != nil {
		return err
	}
	body, info, err := b.Get(ctx, key, bucket.Range{})
	if err != nil {
		return err
	}
	if err := body.Close(); err != nil {
		return err
	}
	_, again := bucket.PutIf(ctx, b, key, bytes.NewReader([]byte("2")), bucket.Condition{Absent: true})
	_, other := bucket.PutIf(ctx, b, key, bytes.NewReader([]byte("3")), bucket.Condition{ETag: `"00000000000000000000000000000000"`})
	_, same := bucket.PutIf(ctx, b, key, bytes.NewReader([]byte("4")), bucket.Condition{ETag: made.ETag})
	switch {
	case !errors.Is(again, bucket.ErrPreconditionFailed), !errors.Is(other, bucket.ErrPreconditionFailed), same != nil:
		return fmt.Errorf("the server does not judge conditional writes as S3 does (if absent: %v, if another: %v, if the same: %v): use another server, or layout objects",
			again, other, same)
	case info.Clock.IsZero() || info.Modified.IsZero():
		return errors.New("the server tells neither Date nor Last-Modified, without which nobody knows whether an owner is dead: use another server, or layout objects")
	}
	return nil
}

func probe(ctx context.Context, b bucket.Bucket, root string) (err error) {
	if err := b.Check(ctx); err != nil {
		return err
	}
	key := path.Join(root, probeName+rand.Text())
	// Without s3:ListBucket, S3 says 403 for what is not there, and no miss could ever be told from a failure.
	if _, err := b.Head(ctx, key); !errors.Is(err, bucket.ErrNotFound) {
		if err == nil {
			err = fmt.Errorf("object %q: found, though it was never written: this is not how S3 answers, correct regionEndpoint", key)
		}
		return err
	}
	for _, err := range b.List(ctx, key, "") {
		if err != nil {
			return err
		}
	}
	defer func() { // also when Put fails: a request that timed out may have arrived
		if gone := b.Delete(context.WithoutCancel(ctx), key); gone != nil && err == nil {
			err = fmt.Errorf("remove the probe object %q: %w", key, gone)
		}
	}()
	want := []byte("written by a probe of s3ds, to be removed at once")
	if err := b.Put(ctx, key, bytes.NewReader(want)); err != nil {
		return err
	}
	body, _, err := b.Get(ctx, key, bucket.Range{})
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	got, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("object %q: read back other bytes than were written: this is not how S3 answers, correct regionEndpoint", key)
	}
	return nil
}
