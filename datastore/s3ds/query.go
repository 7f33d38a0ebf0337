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
// key order unless other orders are given, which make it collect all results first. They stop when ctx ends, with its error, or at
// Close. An error in the middle is the last result.
//
// Cost: 1 LIST per 1,000 keys under the prefix, up to the last one needed; without KeysOnly, 1 GET per value. Without filters and orders
// values that are skipped or beyond the limit are not fetched.
func (d *Datastore) Query(ctx context.Context, q query.Query) (query.Results, error) {
	if err := d.usable(ctx); err != nil {
		return nil, fmt.Errorf("s3ds: query: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	entries := d.entries(ctx, q.Prefix)
	rest := q
	rest.Prefix = "" // done by the list
	if len(q.Filters) == 0 && len(q.Orders) == 0 {
		entries = slice(entries, q.Offset, q.Limit)
		rest.Offset, rest.Limit = 0, 0
	}
	if !q.KeysOnly {
		entries = d.withValues(ctx, cancel, entries)
	}
	next, stop := iter.Pull(entries)
	ended := false
	raw := query.ResultsFromIterator(q, query.Iterator{
		Next: func() (query.Result, bool) {
			if ended {
				return query.Result{}, false
			}
			r, ok := next()
			if !ok {
				ended = true
				return query.Result{}, false
			}
			if err := ctx.Err(); err != nil && r.Error == nil {
				r = query.Result{Error: err}
			}
			if r.Error != nil {
				ended = true
				d.health.record(ctx, r.Error)
				r.Error = fmt.Errorf("s3ds: query %q: %w", q.Prefix, r.Error)
			}
			return r, true
		},
		Close: func() error {
			ended = true
			cancel()
			stop()
			return nil
		},
	})
	return query.NaiveQueryApply(rest, raw), nil
}

// prefix returns what the names of all objects under a query's prefix begin with: its strict children, so "/a" has "a/".
func (d *Datastore) prefix(of string) string {
	p := path.Join(d.root, path.Join("/", of))
	p = path.Clean("/" + p)[1:]
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

// withValues fetches the values of in, up to readAhead of them ahead of the one that is asked for, in order. What was deleted between list and
// fetch is left out.
func (d *Datastore) withValues(ctx context.Context, cancel context.CancelFunc, in iter.Seq[query.Result]) iter.Seq[query.Result] {
	return func(yield func(query.Result) bool) {
		fetched := make(chan chan query.Result, readAhead-1) // one more is being waited for
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
				go func() {
					value, err := d.Get(ctx, ds.RawKey(r.Key))
					if err != nil {
						r = query.Result{Entry: query.Entry{Key: r.Key}, Error: err}
					} else {
						r.Value, r.Size = value, len(value)
					}
					one <- r
				}()
			}
		}()
		// Nothing of this outlives the sequence.
		defer func() {
			cancel()
			for one := range fetched {
				<-one
			}
		}()
		for one := range fetched {
			r := <-one
			if errors.Is(r.Error, ds.ErrNotFound) {
				continue
			}
			if r.Error != nil {
				r.Entry = query.Entry{}
			}
			if !yield(r) {
				return
			}
		}
	}
}
