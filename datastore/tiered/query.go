package tiered

import (
	"context"

	"fmt"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"golang.org/x/sync/errgroup"
)

const (
	// lookups is how many keys of the hot store are looked for in the cold one at a time, and how many of these at once: 64 requests of
	// 25 ms find 2,560 keys a second where the cold store has to ask a bucket.
	lookups  = 256
	together = 64
)

// Query implements datastore.Datastore: first what is in the cold store, then what is in the hot one only. So a value that is moved
// meanwhile is not missed. Memory is that of the two queries, unless an order is asked for: then it is all results.
func (s *Store) Query(ctx context.Context, q query.Query) (query.Results, error) {
	part := query.Query{
		Prefix: q.Prefix, Filters: q.Filters, KeysOnly: q.KeysOnly, ReturnsSizes: q.ReturnsSizes, ReturnExpirations: q.ReturnExpirations,
	}
	cold, err := s.cold.Query(ctx, part)
	if err != nil {
		return nil, fmt.Errorf("tiered: query the cold store: %w", err)
	}
	m := &merged{ctx: ctx, s: s, part: part, now: cold}
	all := query.ResultsFromIterator(part, query.Iterator{Next: m.next, Close: m.close})
	rest := query.Query{Orders: q.Orders, Offset: q.Offset, Limit: q.Limit}
	if len(q.Orders) == 0 && q.Offset == 0 && q.Limit == 0 {
		return query.ResultsReplaceQuery(all, q), nil
	}
	return query.ResultsReplaceQuery(query.NaiveQueryApply(rest, all), q), nil
}

// merged is a query that is under way.
type merged struct {
	ctx  context.Context
	s    *Store
	part query.Query

	now   query.Results // of the cold store, then of the hot one
	hot   bool
	ready []query.Result // of the hot one, without what the cold one has
	err   error          // that comes behind these
	over  bool
}

func (m *merged) next() (query.Result, bool) {
	for !m.over {
		if len(m.ready) > 0 {
			r := m.ready[0]
			m.ready = m.ready[1:]
			return r, true
		}
		if m.err != nil {
			m.over = true
			return query.Result{Error: m.err}, true
		}
		if m.hot {
			m.fill()
			continue
		}
		r, ok := m.now.NextSync()
		if ok {
			if r.Error != nil {
				m.over = true
				r.Error = fmt.Errorf("tiered: query the cold store: %w", r.Error)
			}
			return r, true
		}
		if err := m.begin(); err != nil {
			m.err = err
		}
	}
	return query.Result{}, false
}

// begin goes over to the hot store.
func (m *merged) begin() error {
	if err := m.ctx.Err(); err != nil { // some stores end in silence when they are told to stop
		return err
	}
	if err := m.now.Close(); err != nil {
		return fmt.Errorf("tiered: query the cold store: %w", err)
	}
	hot, err := m.s.hot.Query(m.ctx, m.part)
	if err != nil {
		m.now = nil
		return fmt.Errorf("tiered: query the hot store: %w", err)
	}
	m.now, m.hot = hot, true
	return nil
}

// fill makes the next results of the hot store ready.
func (m *merged) fill() {
	var some []query.Result
	for len(some) < lookups {
		r, ok := m.now.NextSync()
		if !ok {
			m.over = len(some) == 0
			break
		}
		if r.Error != nil {
			m.err = fmt.Errorf("tiered: query the hot store: %w", r.Error)
			break
		}
		some = append(some, r)
	}
	twice := make([]bool, len(some))
	group, ctx := errgroup.WithContext(m.ctx)
	group.SetLimit(together)
	for i, r := range some {
		group.Go(func() (err error) {
			twice[i], err = m.s.cold.Has(ctx, ds.RawKey(r.Key))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		m.err = fmt.Errorf("tiered: query: look for keys in the cold store: %w", err)
		return
	}
	for i, r := range some {
		if !twice[i] {
			m.ready = append(m.ready, r)
		}
	}
	if m.over && m.ctx.Err() != nil {
		m.over, m.err = false, m.ctx.Err()
	}
}

func (m *merged) close() error {
	m.over = true
	if m.now == nil {
		return nil
	}
	return m.now.Close()
}
