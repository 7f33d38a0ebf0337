// Package recorded writes down every call of a bucket, so that a test can compare what an operation asks of the remote side with
// a golden file: a change that costs users a request shows up as a change of that file.
package recorded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// Log is a record of calls, in sections. Within a section lines are sorted, so that calls made at the same time come out in the same
// order every time. Safe for concurrent use.
type Log struct {
	mu       sync.Mutex
	sections []section
}

type section struct {
	title string
	lines []string
}

// Section begins a new section; calls up to the next one belong to it.
func (l *Log) Section(title string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sections = append(l.sections, section{title: title})
}

// Add writes one line into the section that was begun last.
func (l *Log) Add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sections) == 0 {
		l.sections = append(l.sections, section{})
	}
	s := &l.sections[len(l.sections)-1]
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// String returns the whole log.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for i, s := range l.sections {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "# %s\n", s.title)
		lines := slices.Sorted(slices.Values(s.lines))
		for _, line := range lines {
			b.WriteString(line + "\n")
		}
		if len(lines) == 0 {
			b.WriteString("(nothing)\n")
		}
	}
	return b.String()
}

// Bucket is a bucket whose calls are recorded.
type Bucket struct {
	next bucket.Bucket
	log  *Log
}

var _ bucket.Conditional = (*Bucket)(nil)

// Wrap returns b with its calls recorded in log.
func Wrap(b bucket.Bucket, log *Log) *Bucket { return &Bucket{b, log} }

// Put implements bucket.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReadSeeker) error {
	err := b.next.Put(ctx, key, body)
	b.log.Add("put %s: %s", key, result(err))
	return err
}

// PutIf implements bucket.Conditional.
func (b *Bucket) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (bucket.Info, error) {
	info, err := bucket.PutIf(ctx, b.next, key, body, cond)
	b.log.Add("put %s %s: %s", key, cond, result(err))
	return info, err
}

// Get implements bucket.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, r bucket.Range) (io.ReadCloser, bucket.Info, error) {
	body, info, err := b.next.Get(ctx, key, r)
	what := ""
	if !r.Whole() {
		what = fmt.Sprintf(" %d+%d", r.Offset, r.Length)
	}
	b.log.Add("get %s%s: %s", key, what, result(err))
	return body, info, err
}

// Head implements bucket.Bucket.
func (b *Bucket) Head(ctx context.Context, key string) (bucket.Info, error) {
	info, err := b.next.Head(ctx, key)
	b.log.Add("head %s: %s", key, result(err))
	return info, err
}

// List implements bucket.Bucket. The line says how many results were taken.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		n := 0
		var failed error
		defer func() { b.log.Add("list %q after %q: %d results, %s", prefix, after, n, result(failed)) }()
		for info, err := range b.next.List(ctx, prefix, after) {
			if failed = err; err == nil {
				n++
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// Delete implements bucket.Bucket.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	err := b.next.Delete(ctx, keys...)
	what := fmt.Sprintf("%d keys", len(keys))
	if len(keys) == 1 {
		what = keys[0]
	}
	b.log.Add("delete %s: %s", what, result(err))
	return err
}

// Check implements bucket.Bucket.
func (b *Bucket) Check(ctx context.Context) error {
	err := b.next.Check(ctx)
	b.log.Add("check: %s", result(err))
	return err
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, bucket.ErrNotFound):
		return "miss"
	case errors.Is(err, bucket.ErrPreconditionFailed):
		return "refused"
	}
	return "failed"
}
