package efs

import (
	"context"
	"errors"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// Query lists the store, from memory unless values are asked for. It shows
// each block that is there from before the call until the end of the listing
// exactly once. All keys are at the root, so any other prefix has none.
func (d *Datastore) Query(ctx context.Context, q query.Query) (query.Results, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	if ds.NewKey(q.Prefix).String() != "/" {
		return query.ResultsWithEntries(q, nil), nil
	}
	shards := d.allShards()
	for _, s := range shards {
		for _, name := range s.doubtful() {
			if _, _, err := d.resolve(ctx, s, name); err != nil {
				return nil, err
			}
		}
	}
	l := &listing{ctx: ctx, d: d, q: q, shards: shards}
	return query.NaiveQueryApply(q, query.ResultsFromIterator(q, query.Iterator{Next: l.next})), nil
}

// listing goes through the shards one by one, so that it holds the names of one at a time.
type listing struct {
	ctx    context.Context
	d      *Datastore
	q      query.Query
	shards []*shard
	shard  *shard
	names  []entry
	failed bool
}

func (l *listing) next() (query.Result, bool) {
	for !l.failed {
		for len(l.names) == 0 {
			if len(l.shards) == 0 {
				return query.Result{}, false
			}
			l.shard, l.shards = l.shards[0], l.shards[1:]
			l.names = l.shard.list()
		}
		e := l.names[0]
		l.names = l.names[1:]
		result := query.Result{Entry: query.Entry{Key: "/" + e.name, Size: int(e.size)}}
		if err := l.check(); err != nil {
			l.failed = true
			return query.Result{Error: err}, true
		}
		if l.q.KeysOnly {
			return result, true
		}
		value, err := l.value(e.name)
		if errors.Is(err, ds.ErrNotFound) {
			continue // deleted since
		}
		if err != nil {
			l.failed = true
			return query.Result{Error: err}, true
		}
		result.Value, result.Size = value, len(value)
		return result, true
	}
	return query.Result{}, false
}

// check ends a listing whose caller has gone or whose store was closed.
func (l *listing) check() error {
	if err := l.d.enter(); err != nil {
		return err
	}
	l.d.leave()
	return l.ctx.Err()
}

func (l *listing) value(name string) ([]byte, error) {
	if err := l.d.enter(); err != nil {
		return nil, err
	}
	defer l.d.leave()
	return l.d.get(l.ctx, l.shard, name)
}
