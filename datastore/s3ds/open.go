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
// fails is returned as one line with the fix. It leaves nothing behind. Cost: 2 HEAD, 1 LIST, 1 PUT, 1 GET, 1 DELETE.
func Probe(ctx context.Context, c Config) error {
	d, err := connect(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return probe(ctx, d.b, d.root)
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
