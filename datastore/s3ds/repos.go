package s3ds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// reposName is the object under the prefix in which the programs that use a store note which repos write there. It is no
// block, and goes with the store.
const reposName = ".ipfs-aws-repos"

// maxRepos bounds what is read of it.
const maxRepos = 64 << 10

// Repos returns the content of the object that lists the repos that write to the store; nil: there is none. One GET.
func (d *Datastore) Repos(ctx context.Context) ([]byte, error) {
	body, _, err := d.b.Get(ctx, d.prefix("")+reposName, bucket.Range{})
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("s3ds: %w", err)
	}
	defer func() { _ = body.Close() }()
	b, err := io.ReadAll(io.LimitReader(body, maxRepos))
	if err != nil {
		return nil, fmt.Errorf("s3ds: read object %q: %w", reposName, err)
	}
	return b, nil
}

// SetRepos replaces that object. One PUT.
func (d *Datastore) SetRepos(ctx context.Context, list []byte) error {
	if err := d.b.Put(ctx, d.prefix("")+reposName, bytes.NewReader(list)); err != nil {
		return fmt.Errorf("s3ds: %w", err)
	}
	return nil
}

// Repos is that of the objects under the same prefix.
func (p *Packed) Repos(ctx context.Context) ([]byte, error) { return p.loose.Repos(ctx) }

// SetRepos is that of the objects under the same prefix.
func (p *Packed) SetRepos(ctx context.Context, list []byte) error { return p.loose.SetRepos(ctx, list) }
