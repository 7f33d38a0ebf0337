package pinning

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

const (
	// firstStall is for how long no block may come in a pin's first attempt. Peers of the
	// cluster answer in milliseconds; finding a provider in a public network takes seconds.
	firstStall = 10 * time.Second

	// firstWait and longestWait bound the time between two attempts, which doubles.
	firstWait   = 30 * time.Second
	longestWait = 6 * time.Hour

	// spread is the part of a wait that is added at random, so that pins that came
	// together are not tried together for ever.
	spread = 0.2

	// lockedWait is how soon a pin is tried again for which the node has every block: it
	// waits for something else, such as a collection of garbage.
	lockedWait = 10 * time.Second

	// firstAsk and longestAsk bound the time between two questions to the other peers
	// about a missing block, which doubles.
	firstAsk   = 30 * time.Second
	longestAsk = 10 * time.Minute
)

// absentPrefix is where the store keeps since when a CID is not found.
var absentPrefix = ds.NewKey("/cluster-aws/not-found")

// absence is a CID whose content was not found.
type absence struct {
	Since time.Time `json:"since"`
	Tries int       `json:"tries"`

	tries   int           // since it was last reset: what the waits double with
	why     string        // of the last attempt
	missing cid.Cid       // the first block that is missing, or undefined
	next    time.Time     // of the next attempt
	asked   time.Duration // between the last two questions to other peers
	ask     time.Time     // of the next question
}

func (a *absence) Error() string {
	what := ""
	if a.missing.Defined() {
		what = fmt.Sprintf("; first missing %s", a.missing)
	}
	return fmt.Sprintf("%s%s; not found since %s, tried %d times; next attempt at %s, or when a peer of the cluster has it",
		a.why, what, a.Since.UTC().Format(time.RFC3339), a.Tries, a.next.UTC().Format(time.RFC3339))
}

// absences are the CIDs that wait for their next attempt. It is safe for concurrent use.
type absences struct {
	store ds.Datastore
	now   func() time.Time
	wake  chan struct{} // has room for one: an attempt may be due

	mu sync.Mutex
	of map[cid.Cid]*absence
}

// loadAbsences reads what an earlier run of this peer did not find. All of it is due.
func loadAbsences(ctx context.Context, store ds.Datastore) (*absences, error) {
	t := &absences{store: store, now: time.Now, wake: make(chan struct{}, 1), of: map[cid.Cid]*absence{}}
	found, err := store.Query(ctx, query.Query{Prefix: absentPrefix.String()})
	if err != nil {
		return nil, fmt.Errorf("read which pins were not found: %w", err)
	}
	defer found.Close()
	for r := range found.Next() {
		if r.Error != nil {
			return nil, fmt.Errorf("read which pins were not found: %w", r.Error)
		}
		a := &absence{}
		id, err := cid.Decode(ds.RawKey(r.Key).BaseNamespace())
		if err != nil || json.Unmarshal(r.Value, a) != nil {
			continue // it says no more than a time
		}
		a.tries = a.Tries
		t.of[id] = a
	}
	return t, nil
}

// waiting returns why a CID is not to be tried now, or nil.
func (t *absences) waiting(id cid.Cid) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.of[id]; a != nil && t.now().Before(a.next) {
		return a.copy()
	}
	return nil
}

func (a *absence) copy() *absence { b := *a; return &b }

// stall is for how long no block may come in the next attempt.
func (t *absences) stall(id cid.Cid, longest time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	tries := 0
	if a := t.of[id]; a != nil {
		tries = a.tries
	}
	return doubled(firstStall, tries, longest)
}

// doubled is a duration doubled so many times, and no longer than another.
func doubled(first time.Duration, times int, longest time.Duration) time.Duration {
	d := first
	for ; times > 0 && d < longest; times-- {
		d *= 2
	}
	return min(d, longest)
}

// failed notes an attempt, and returns the error for the pin's status. missing is
// undefined if it is not known; locked says that nothing is.
func (t *absences) failed(ctx context.Context, id cid.Cid, why string, missing cid.Cid, locked bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of[id]
	if a == nil {
		a = &absence{Since: t.now()}
		t.of[id] = a
	}
	a.why, a.missing = why, missing
	a.Tries++
	wait := lockedWait
	if !locked {
		wait = doubled(firstWait, a.tries, longestWait)
		a.tries++
	}
	wait += time.Duration(spread * rand.Float64() * float64(wait))
	a.next = t.now().Add(min(wait, longestWait))
	a.asked = firstAsk
	a.ask = t.now().Add(firstAsk)
	signal(t.wake)
	value, err := json.Marshal(a)
	if err == nil {
		err = t.store.Put(ctx, key(id), value)
	}
	if err != nil && ctx.Err() == nil {
		logger.Warnf("since when %s is not found was not written, a restart forgets it: %s", id, err)
	}
	return a.copy()
}

func key(id cid.Cid) ds.Key { return absentPrefix.ChildString(id.String()) }

// forget is for a CID that is pinned, or no longer to be.
func (t *absences) forget(ctx context.Context, id cid.Cid) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[id] == nil {
		return
	}
	delete(t.of, id)
	if err := t.store.Delete(ctx, key(id)); err != nil && ctx.Err() == nil {
		logger.Warnf("that %s is not found was not removed, a restart looks at it again: %s", id, err)
	}
}

// reset makes some CIDs due, or all if none is given, as if they were new.
func (t *absences) reset(ids ...cid.Cid) {
	t.mu.Lock()
	defer t.mu.Unlock()
	due := func(a *absence) { a.next, a.tries = time.Time{}, 0 }
	if len(ids) == 0 {
		for _, a := range t.of {
			due(a)
		}
	}
	for _, id := range ids {
		if a := t.of[id]; a != nil {
			due(a)
		}
	}
}

// due returns the CIDs to be tried now, and when the next one will be; it is zero if
// there is none.
func (t *absences) due() (ids []cid.Cid, next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, a := range t.of {
		switch {
		case !t.now().Before(a.next):
			ids = append(ids, id)
		case next.IsZero() || a.next.Before(next):
			next = a.next
		}
	}
	return ids, next
}

// question returns the missing blocks that the other peers are to be asked for now, up to
// max, with the CIDs that wait for them.
func (t *absences) question(max int) map[cid.Cid][]cid.Cid {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[cid.Cid][]cid.Cid{}
	for id, a := range t.of {
		if !a.missing.Defined() || t.now().Before(a.ask) || !t.now().Before(a.next) || len(out) == max {
			continue
		}
		a.asked = min(2*a.asked, longestAsk)
		a.ask = t.now().Add(a.asked)
		out[a.missing] = append(out[a.missing], id)
	}
	return out
}

// count is how many CIDs wait.
func (t *absences) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, a := range t.of {
		if t.now().Before(a.next) {
			n++
		}
	}
	return n
}

// signal asks for something that is done at least once after the last signal.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default: // one is on its way
	}
}
