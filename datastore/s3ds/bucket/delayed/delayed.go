// Package delayed gives a bucket the latency of S3, so that tests and benchmarks on one machine see the time that requests take in
// a region. It keeps nothing.
package delayed

import (
	"context"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// Model is how long requests take.
type Model struct {
	// FirstByte is the median time to the first byte of an answer, by operation.
	FirstByte map[bucket.Op]time.Duration
	// Sigma is the shape of the lognormal distribution around the median; at 0.35, 1 in 100 takes more than 2.3 times as long.
	Sigma float64
	// BytesPerSecond is the throughput of one connection, each way.
	BytesPerSecond float64
	// Scale multiplies every delay: 1 is real time, 0.1 ten times as fast.
	Scale float64
	// Seed makes delays repeatable.
	Seed uint64
}

// S3 is S3 in the same region as measured for this project: first byte 25 ms for GET and HEAD, 40 ms for PUT, 50 ms for LIST;
// 90 MB/s per connection. DELETE is taken to be like PUT.
func S3() Model {
	const ms = time.Millisecond
	return Model{
		FirstByte: map[bucket.Op]time.Duration{
			bucket.OpGet: 25 * ms, bucket.OpHead: 25 * ms, bucket.OpCheck: 25 * ms,
			bucket.OpPut: 40 * ms, bucket.OpDelete: 40 * ms, bucket.OpList: 50 * ms,
		},
		Sigma: 0.35, BytesPerSecond: 90e6, Scale: 1, Seed: 1,
	}
}

// page is the number of results that one LIST request brings.
const page = 1000

// Bucket is a bucket with latency. Safe for concurrent use; calls do not wait for one another.
type Bucket struct {
	next  bucket.Bucket
	model Model

	mu     sync.Mutex
	random *rand.Rand
}

var _ bucket.Conditional = (*Bucket)(nil)

// Wrap returns b with the latency of m.
func Wrap(b bucket.Bucket, m Model) *Bucket {
	return &Bucket{next: b, model: m, random: rand.New(rand.NewPCG(m.Seed, 0))}
}

// firstByte waits for the answer to begin.
func (b *Bucket) firstByte(ctx context.Context, op bucket.Op) error {
	b.mu.Lock()
	z := b.random.NormFloat64()
	b.mu.Unlock()
	return b.wait(ctx, float64(b.model.FirstByte[op])*math.Exp(b.model.Sigma*z))
}

// transfer waits for n bytes to pass.
func (b *Bucket) transfer(ctx context.Context, n int64) error {
	return b.wait(ctx, float64(n)/b.model.BytesPerSecond*float64(time.Second))
}

func (b *Bucket) wait(ctx context.Context, d float64) error {
	t := time.NewTimer(time.Duration(d * b.model.Scale))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Put implements bucket.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReadSeeker) error {
	if err := b.upload(ctx, body); err != nil {
		return err
	}
	return b.next.Put(ctx, key, body)
}

// PutIf implements bucket.Conditional.
func (b *Bucket) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (bucket.Info, error) {
	if err := b.upload(ctx, body); err != nil {
		return bucket.Info{}, err
	}
	return bucket.PutIf(ctx, b.next, key, body, cond)
}

// upload waits for a body to be sent and the answer to begin.
func (b *Bucket) upload(ctx context.Context, body io.Seeker) error {
	at, err := body.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	end, err := body.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := body.Seek(at, io.SeekStart); err != nil {
		return err
	}
	if err := b.transfer(ctx, end-at); err != nil {
		return err
	}
	return b.firstByte(ctx, bucket.OpPut)
}

// Get implements bucket.Bucket. The body arrives at the model's throughput.
func (b *Bucket) Get(ctx context.Context, key string, r bucket.Range) (io.ReadCloser, bucket.Info, error) {
	if err := b.firstByte(ctx, bucket.OpGet); err != nil {
		return nil, bucket.Info{}, err
	}
	body, info, err := b.next.Get(ctx, key, r)
	if err != nil {
		return nil, info, err
	}
	return &reader{body, ctx, b}, info, nil
}

// Head implements bucket.Bucket.
func (b *Bucket) Head(ctx context.Context, key string) (bucket.Info, error) {
	if err := b.firstByte(ctx, bucket.OpHead); err != nil {
		return bucket.Info{}, err
	}
	return b.next.Head(ctx, key)
}

// List implements bucket.Bucket. Each page waits.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		if err := b.firstByte(ctx, bucket.OpList); err != nil {
			yield(bucket.Info{}, err)
			return
		}
		n := 0
		for info, err := range b.next.List(ctx, prefix, after) {
			if n > 0 && n%page == 0 {
				if err := b.firstByte(ctx, bucket.OpList); err != nil {
					yield(bucket.Info{}, err)
					return
				}
			}
			n++
			if !yield(info, err) {
				return
			}
		}
	}
}

// Delete implements bucket.Bucket.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	for n := 0; n < len(keys); n += page {
		if err := b.firstByte(ctx, bucket.OpDelete); err != nil {
			return err
		}
	}
	return b.next.Delete(ctx, keys...)
}

// Check implements bucket.Bucket.
func (b *Bucket) Check(ctx context.Context) error {
	if err := b.firstByte(ctx, bucket.OpCheck); err != nil {
		return err
	}
	return b.next.Check(ctx)
}

type reader struct {
	io.ReadCloser
	ctx context.Context
	b   *Bucket
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 {
		if waited := r.b.transfer(r.ctx, int64(n)); waited != nil {
			return n, waited
		}
	}
	return n, err
}
