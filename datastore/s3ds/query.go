package s3ds

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// readAhead is how many values a query fetches before they are asked for: 16 GETs of 25 ms each keep 640 values a second
// coming, and hold 32 MiB of the largest blocks.
const readAhead = 16

// Query implements datastore.Datastore: prefix, filters, orders, offset, limit, with or without values. Results come in
// key order unless other orders are given, which make it collect all results first. They end early when ctx ends, with its error
// as the last result, and at Close, which must be called if they are not read to their end. Any other failure is the last
// result, too.
//
// Cost: 1 LIST per 1,000 keys under the prefix, up to the last one needed; without KeysOnly, 1 GET per value. Without filters and
// orders, values that are skipped or beyond the limit are not fetched.
func (d *Datastore) Query(ctx context.Context, q query.Query) (query.Results, error) {
	if err := d.usable(ctx); err != nil {
		return nil, fmt.Errorf("s3ds: query: %w", err)
	}
	return asker{d.entries, d.Get, d.health.record}.query(ctx, q), nil
}

// asker answers queries, whatever the layout.
type asker struct {
	entries func(ctx context.Context, prefix string) iter.Seq[query.Result] // keys and sizes; an error is the last one
	get     func(context.Context, ds.Key) ([]byte, error)
	failed  func(context.Context, error)
}

func (d asker) query(ctx context.Context, q query.Query) query.Results {
	return query.ResultsWithContext(q, func(open context.Context, out chan<- query.Result) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(open, cancel)()
		for r := range d.results(ctx, q) {
			if err := ctx.Err(); err != nil {
				r = query.Result{Error: err} // whatever it was
			}
			if r.Error != nil {
				d.failed(ctx, r.Error)
				r = query.Result{Error: fmt.Errorf("s3ds: query %q: %w", q.Prefix, r.Error)}
			}
			select {
			case out <- r:
			case <-open.Done():
				return
			}
			if r.Error != nil {
				return
			}
		}
	})
}

// results yields what q asks for. An error is the last result.
func (d asker) results(ctx context.Context, q query.Query) iter.Seq[query.Result] {
	entries := d.entries(ctx, q.Prefix)
	if len(q.Filters) == 0 && len(q.Orders) == 0 {
		entries = slice(entries, q.Offset, q.Limit)
		q.Offset, q.Limit = 0, 0
	}
	if !q.KeysOnly {
		entries = d.withValues(ctx, entries)
	}
	if len(q.Filters) == 0 && len(q.Orders) == 0 {
		return entries
	}
	return func(yield func(query.Result) bool) {
		next, stop := iter.Pull(entries)
		defer stop()
		q.Prefix = "" // the list has seen to it
		applied := query.NaiveQueryApply(q, query.ResultsFromIterator(q, query.Iterator{Next: next}))
		for {
			r, ok := applied.NextSync()
			if !ok || !yield(r) {
				return
			}
		}
	}
}

// prefix returns what the names of all objects under a query's prefix begin with: its strict children, so "/a" is "a/".
func (d *Datastore) prefix(of string) string {
	p := path.Join("/", d.root, path.Join("/", of))[1:]
	if p == "" {
		return ""
	}
	return p + "/"
}

// entries yields keys and sizes under a prefix, in key order.
func (d *Datastore) entries(ctx context.Context, prefix string) iter.Seq[query.Result] {
	return func(yield func(query.Result) bool) {
		for info, err := range d.b.List(ctx, d.prefix(prefix), "") {
			if err != nil {
				yield(query.Result{Error: err})
				return
			}
			if key, ours := d.key(info.Key); ours {
				if !yield(query.Result{Entry: query.Entry{Key: key.String(), Size: int(info.Size)}}) {
					return
				}
			}
		}
	}
}

// slice skips offset results and ends after limit more, 0 for no limit.
func slice(in iter.Seq[query.Result], offset, limit int) iter.Seq[query.Result] {
	return func(yield func(query.Result) bool) {
		seen := 0
		for r := range in {
			seen++
			if r.Error == nil && seen <= offset {
				continue
			}
			if !yield(r) || limit > 0 && seen == offset+limit {
				return
			}
		}
	}
}

// withValues fetches the values of in, in order, readAhead of them at a time. What was deleted between list and fetch is
// left out. Nothing of it outlives the sequence.
func (d asker) withValues(ctx context.Context, in iter.Seq[query.Result]) iter.Seq[query.Result] {
	return func(yield func(query.Result) bool) {
		ctx, cancel := context.WithCancel(ctx)
		fetched := make(chan chan query.Result, readAhead-1) // one more is being waited for
		defer func() {
			cancel()
			for one := range fetched {
				<-one
			}
		}()
		go func() {
			defer close(fetched)
			for r := range in {
				one := make(chan query.Result, 1)
				select {
				case fetched <- one:
				case <-ctx.Done():
					return
				}
				if r.Error != nil {
					one <- r
					return
				}
				go func() { one <- d.withValue(ctx, r) }()
			}
		}()
		for one := range fetched {
			r := <-one
			if errors.Is(r.Error, ds.ErrNotFound) {
				continue
			}
			if !yield(r) {
				return
			}
		}
		// The list ends in silence when ctx does: say so.
		if err := ctx.Err(); err != nil {
			yield(query.Result{Error: err})
		}
	}
}

func (d asker) withValue(ctx context.Context, r query.Result) query.Result {
	value, err := d.get(ctx, ds.RawKey(r.Key))
	if err != nil {
		return query.Result{Error: err}
	}
	r.Value, r.Size = value, len(value)
	return r
}
