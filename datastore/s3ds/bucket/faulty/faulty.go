// Package faulty makes a bucket fail on demand, for tests of what is built on buckets: a call fails before or after it took
// effect, a body breaks, ends early or arrives damaged. Rules are kept in memory.
package faulty

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// ErrReset is what a body that breaks fails with.
var ErrReset = errors.New("connection reset by peer")

// Body is how the body of a get is spoiled.
type Body int

// The ways to spoil a body.
const (
	Intact Body = iota
	// Reset fails with ErrReset after half of the body.
	Reset
	// Truncate ends with io.EOF after half of the body, which breaks the contract of bucket.Bucket, as a bad proxy does.
	Truncate
	// Flip delivers the whole body with one bit changed.
	Flip
)

// Rule says which calls fail, and how. The first rule that matches a call is applied.
type Rule struct {
	Op    bucket.Op // "" for every operation
	Key   string    // what a key (or the prefix of a list) must contain; "" for every key
	After int       // calls that match and are let pass first; for list: results
	Times int       // calls that fail then; 0 for all
	Err   error     // fail with this error
	Late  bool      // fail after the call took effect, as when an answer is lost
	Body  Body      // spoil the body of a get instead
}

type rule struct {
	Rule
	seen int
}

// Bucket is a bucket that fails as its rules say. Safe for concurrent use.
type Bucket struct {
	next bucket.Bucket

	mu    sync.Mutex
	rules []*rule
}

var _ bucket.Conditional = (*Bucket)(nil)

// Wrap returns b with no rules.
func Wrap(b bucket.Bucket) *Bucket { return &Bucket{next: b} }

// Set replaces all rules; without arguments it heals the bucket.
func (b *Bucket) Set(rules ...Rule) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules = nil
	for _, r := range rules {
		b.rules = append(b.rules, &rule{Rule: r})
	}
}

// match returns the rule that a call falls under.
func (b *Bucket) match(op bucket.Op, keys ...string) (Rule, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.rules {
		if r.Op != "" && r.Op != op {
			continue
		}
		if r.Key != "" && !slices.ContainsFunc(keys, func(k string) bool { return strings.Contains(k, r.Key) }) {
			continue
		}
		r.seen++
		if op != bucket.OpList && r.seen <= r.After || r.Times > 0 && r.seen > r.After+r.Times {
			continue
		}
		return r.Rule, true
	}
	return Rule{}, false
}

// do runs a call under its rule.
func (b *Bucket) do(op bucket.Op, call func() error, keys ...string) error {
	r, hit := b.match(op, keys...)
	if hit && r.Err != nil && !r.Late {
		return r.Err
	}
	err := call()
	if hit && r.Err != nil {
		return r.Err
	}
	return err
}

// Put implements bucket.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReadSeeker) error {
	return b.do(bucket.OpPut, func() error { return b.next.Put(ctx, key, body) }, key)
}

// PutIf implements bucket.Conditional.
func (b *Bucket) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (info bucket.Info, err error) {
	err = b.do(bucket.OpPut, func() error { info, err = bucket.PutIf(ctx, b.next, key, body, cond); return err }, key)
	return info, err
}

// Get implements bucket.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, r bucket.Range) (io.ReadCloser, bucket.Info, error) {
	rule, hit := b.match(bucket.OpGet, key)
	if hit && rule.Err != nil {
		return nil, bucket.Info{}, rule.Err
	}
	body, info, err := b.next.Get(ctx, key, r)
	if err != nil || !hit || rule.Body == Intact {
		return body, info, err
	}
	n, err := r.Clip(info.Size)
	if err != nil {
		return nil, bucket.Info{}, errors.Join(err, body.Close())
	}
	return &spoiled{ReadCloser: body, how: rule.Body, left: n / 2}, info, nil
}

// Head implements bucket.Bucket.
func (b *Bucket) Head(ctx context.Context, key string) (info bucket.Info, err error) {
	err = b.do(bucket.OpHead, func() error { info, err = b.next.Head(ctx, key); return err }, key)
	return info, err
}

// List implements bucket.Bucket. A rule with an error ends the list with it, After results later.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		rule, hit := b.match(bucket.OpList, prefix)
		n := 0
		for info, err := range b.next.List(ctx, prefix, after) {
			if hit && rule.Err != nil && n >= rule.After {
				yield(bucket.Info{}, rule.Err)
				return
			}
			if !yield(info, err) {
				return
			}
			n++
		}
		if hit && rule.Err != nil {
			yield(bucket.Info{}, rule.Err)
		}
	}
}

// Delete implements bucket.Bucket.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	return b.do(bucket.OpDelete, func() error { return b.next.Delete(ctx, keys...) }, keys...)
}

// Check implements bucket.Bucket.
func (b *Bucket) Check(ctx context.Context) error {
	return b.do(bucket.OpCheck, func() error { return b.next.Check(ctx) }, "")
}

type spoiled struct {
	io.ReadCloser
	how  Body
	left int64 // bytes until it happens
}

func (s *spoiled) Read(p []byte) (int, error) {
	if s.left > 0 && int64(len(p)) > s.left {
		p = p[:s.left]
	}
	if s.left == 0 {
		switch s.how {
		case Reset:
			return 0, ErrReset
		case Truncate:
			return 0, io.EOF
		}
	}
	n, err := s.ReadCloser.Read(p)
	if s.how == Flip && s.left == 0 && n > 0 {
		p[0] ^= 1
		s.how = Intact
	}
	s.left = max(s.left-int64(n), 0)
	return n, err
}
