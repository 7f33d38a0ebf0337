package s3ds

import (
	"bytes"
	"context"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dstest "github.com/ipfs/go-datastore/test"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

func TestMain(m *testing.M) {
	if !writer() {
		if !gate.Full() {
			dstest.ElemCount = 20 // of go-datastore's suite: its own minimum
		}
		s3test.Main(m)
	}
}

// config is that of a bucket behind url.
func config(url, bucket string) Config {
	return Config{
		Region: s3test.Region, Bucket: bucket, RegionEndpoint: url, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey,
		MaxAttempts: 2, RequestTimeout: 10 * time.Second,
	}
}

func open(t testing.TB, c Config) *Datastore {
	t.Helper()
	d, err := Open(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// block returns the key and the bytes of a block as kubo stores it.
func block(t testing.TB, data []byte, code uint64) (ds.Key, []byte) {
	t.Helper()
	sum, err := mh.Sum(data, code, -1)
	require.NoError(t, err)
	return ds.NewKey(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum)), data
}

// randomBytes returns other bytes at each call, and the same ones at each run.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), randomCalls.Add(1)))).Read(b)
	return b
}

var randomCalls atomic.Uint64

func putObject(t testing.TB, b bucket.Bucket, key string, data []byte) {
	t.Helper()
	require.NoError(t, b.Put(t.Context(), key, bytes.NewReader(data)))
}

func queryKeys(t testing.TB, d ds.Datastore, q query.Query) []string {
	t.Helper()
	q.KeysOnly = true
	r, err := d.Query(t.Context(), q)
	require.NoError(t, err)
	entries, err := r.Rest()
	require.NoError(t, err)
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	return keys
}

// calls are all calls of a datastore that ask the bucket for something, on one that holds /there.
func calls(ctx context.Context, d *Datastore) map[string]func() error {
	there, absent := ds.NewKey("/there"), ds.NewKey("/absent")
	rest := func(q query.Query) error {
		r, err := d.Query(ctx, q)
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		_, err = r.Rest()
		return err
	}
	commit := func(fill func(ds.Batch) error) error {
		b, err := d.Batch(ctx)
		if err != nil {
			return err
		}
		if err := fill(b); err != nil {
			return err
		}
		return b.Commit(ctx)
	}
	return map[string]func() error{
		"put":         func() error { return d.Put(ctx, there, []byte("value")) },
		"get":         func() error { _, err := d.Get(ctx, there); return err },
		"has":         func() error { _, err := d.Has(ctx, there); return err },
		"has absent":  func() error { _, err := d.Has(ctx, absent); return err },
		"size":        func() error { _, err := d.GetSize(ctx, there); return err },
		"delete":      func() error { return d.Delete(ctx, absent) },
		"query":       func() error { return rest(query.Query{}) },
		"query keys":  func() error { return rest(query.Query{KeysOnly: true}) },
		"query order": func() error { return rest(query.Query{Orders: []query.Order{query.OrderByValue{}}}) },
		"usage":       func() error { _, err := d.DiskUsage(ctx); return err },
		"batch put":   func() error { return commit(func(b ds.Batch) error { return b.Put(ctx, there, []byte("value")) }) },
		"batch delete": func() error {
			return commit(func(b ds.Batch) error {
				for i := range 3 {
					if err := b.Delete(ctx, ds.NewKey(fmt.Sprint("absent", i))); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}
