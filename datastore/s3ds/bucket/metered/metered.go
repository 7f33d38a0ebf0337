// Package metered counts what a bucket is asked for and what that costs: calls with their outcome, bytes and duration
// (seen by a decorator around the bucket), and requests with their price (reported by the implementation, which alone knows of
// retries, pages and resumed downloads). All of it is in memory, and starts at zero with the process.
package metered

import (
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"sync"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// Outcome is what became of a call.
type Outcome string

// The outcomes of a call.
const (
	OK        Outcome = "ok"
	Miss      Outcome = "miss" // ErrNotFound; of a conditional put: ErrPreconditionFailed
	Throttled Outcome = "throttled"
	Cancelled Outcome = "cancelled" // by the caller
	Failed    Outcome = "failed"
)

// Prices are USD per request by operation.
type Prices map[bucket.Op]float64

// Standard are the prices of S3 Standard in us-east-1, as of 2026-08 (https://aws.amazon.com/s3/pricing/): PUT and LIST
// $0.005 per 1,000, GET and HEAD $0.0004 per 1,000, DELETE free. Storage and transfer are not in them.
var Standard = Prices{
	bucket.OpPut:    0.005 / 1000,
	bucket.OpList:   0.005 / 1000,
	bucket.OpGet:    0.0004 / 1000,
	bucket.OpHead:   0.0004 / 1000,
	bucket.OpCheck:  0.0004 / 1000,
	bucket.OpDelete: 0,
}

// Counts are the totals of one operation since the meter was made.
type Counts struct {
	Calls         map[Outcome]uint64
	Seconds       float64 // spent in calls; for get until the body is open, for list without the time of the consumer
	BytesIn       uint64  // bytes of objects read by callers
	BytesOut      uint64  // bytes of objects put by callers
	Requests      uint64  // HTTP requests, retries included
	Failures      uint64  // requests that failed
	Throttles     uint64  // of these: those that were answered with "slow down"
	Retries       uint64  // requests that were sent because another one had failed
	BytesReceived uint64  // bytes of request and response bodies on the wire
	BytesSent     uint64
	USD           float64
}

// Meter adds up. Safe for concurrent use. It is a prometheus.Collector.
type Meter struct {
	prices Prices

	mu  sync.Mutex
	ops map[bucket.Op]*Counts
}

// NewMeter returns a meter at zero, with the prices of S3 Standard.
func NewMeter() *Meter {
	m := &Meter{prices: Standard, ops: map[bucket.Op]*Counts{}}
	for _, op := range bucket.Ops {
		m.ops[op] = &Counts{Calls: map[Outcome]uint64{}}
	}
	return m
}

// Observe takes note of a request; it is what an implementation's observer is set to.
func (m *Meter) Observe(r bucket.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.ops[r.Op]
	c.Requests++
	if r.Failed {
		c.Failures++
	}
	if r.Throttle {
		c.Throttles++
	}
	if r.Retry {
		c.Retries++
	}
	c.BytesReceived += uint64(r.Received)
	c.BytesSent += uint64(r.Sent)
	c.USD += m.prices[r.Op]
}

// Snapshot returns the totals by operation.
func (m *Meter) Snapshot() map[bucket.Op]Counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := make(map[bucket.Op]Counts, len(m.ops))
	for op, c := range m.ops {
		one := *c
		one.Calls = maps.Clone(c.Calls)
		s[op] = one
	}
	return s
}

func (m *Meter) called(op bucket.Op, took time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.ops[op]
	c.Calls[outcome(err)]++
	c.Seconds += took.Seconds()
}

func (m *Meter) moved(op bucket.Op, in, out int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ops[op].BytesIn += uint64(in)
	m.ops[op].BytesOut += uint64(out)
}

func outcome(err error) Outcome {
	switch {
	case err == nil:
		return OK
	case errors.Is(err, bucket.ErrNotFound), errors.Is(err, bucket.ErrPreconditionFailed):
		return Miss
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Cancelled
	case errors.Is(err, bucket.ErrThrottled):
		return Throttled
	}
	return Failed
}

// Bucket is a bucket whose calls are metered.
type Bucket struct {
	next bucket.Bucket
	m    *Meter
}

var _ bucket.Conditional = (*Bucket)(nil)

// Wrap returns b with its calls counted by m.
func Wrap(b bucket.Bucket, m *Meter) *Bucket { return &Bucket{b, m} }

// Put implements bucket.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReadSeeker) error {
	return b.put(body, func() error { return b.next.Put(ctx, key, body) })
}

// PutIf implements bucket.Conditional.
func (b *Bucket) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (info bucket.Info, err error) {
	err = b.put(body, func() error { info, err = bucket.PutIf(ctx, b.next, key, body, cond); return err })
	return info, err
}

func (b *Bucket) put(body io.Seeker, call func() error) error {
	at, err := body.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	began := time.Now()
	err = call()
	b.m.called(bucket.OpPut, time.Since(began), err)
	if err == nil {
		if end, err := body.Seek(0, io.SeekEnd); err == nil {
			b.m.moved(bucket.OpPut, 0, int(end-at))
		}
	}
	return err
}

// Get implements bucket.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, r bucket.Range) (io.ReadCloser, bucket.Info, error) {
	began := time.Now()
	body, info, err := b.next.Get(ctx, key, r)
	b.m.called(bucket.OpGet, time.Since(began), err)
	if err != nil {
		return nil, info, err
	}
	return &reader{body, b.m}, info, nil
}

// Head implements bucket.Bucket.
func (b *Bucket) Head(ctx context.Context, key string) (bucket.Info, error) {
	began := time.Now()
	info, err := b.next.Head(ctx, key)
	b.m.called(bucket.OpHead, time.Since(began), err)
	return info, err
}

// List implements bucket.Bucket.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		var failed error
		var took time.Duration
		began := time.Now()
		for info, err := range b.next.List(ctx, prefix, after) {
			took += time.Since(began)
			failed = err
			more := yield(info, err)
			began = time.Now()
			if !more {
				break
			}
		}
		b.m.called(bucket.OpList, took+time.Since(began), failed)
	}
}

// Delete implements bucket.Bucket.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	began := time.Now()
	err := b.next.Delete(ctx, keys...)
	b.m.called(bucket.OpDelete, time.Since(began), err)
	return err
}

// Check implements bucket.Bucket.
func (b *Bucket) Check(ctx context.Context) error {
	began := time.Now()
	err := b.next.Check(ctx)
	b.m.called(bucket.OpCheck, time.Since(began), err)
	return err
}

// Close closes what is wrapped, if it can be closed.
func (b *Bucket) Close() error {
	if c, ok := b.next.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

type reader struct {
	io.ReadCloser
	m *Meter
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.m.moved(bucket.OpGet, n, 0)
	return n, err
}
