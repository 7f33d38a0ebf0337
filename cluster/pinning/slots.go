package pinning

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// pause is how long a pin may get no block and keep its slot, and youngPause how long one
	// that has none counts as young. A node reports twice a second.
	pause      = time.Second
	youngPause = 600 * time.Millisecond

	// youngPerSlot and standingPerSlot are how many attempts without a slot there may be for
	// each slot: young ones, all of which may turn out to have content and then take more
	// slots than there are, and those for which no block came for a while. With the default of
	// ten slots they are 20 and 60: each is a goroutine here and in the node, and a block that
	// the node asks its peers for.
	youngPerSlot    = 2
	standingPerSlot = 6

	// chance is how long an attempt may stand before it is ended for another one. A node that is
	// busy needs seconds for a block that a peer of the cluster has. A thousand pins that
	// are not found are all tried within 1,000 / 60 × 5 s = 83 s.
	chance = 5 * time.Second
)

// errCrowded ends an attempt for which no block came, because there are too many of them.
var errCrowded = errors.New("too many others wait for blocks")

// phase is what an attempt is counted as.
type phase int

const (
	moving   phase = iota // it has a slot
	young                 // it has none, and less than youngPause has gone by
	standing              // it has none, and no block came for a while
	ending                // it was told to end
)

// slots admits attempts. It is safe for concurrent use.
type slots struct {
	size int
	now  func() time.Time

	mu      sync.Mutex
	all     []*attempt // that were admitted
	waiting []*attempt // in the order in which they came
}

// patience is how long an attempt stays in the phase without a block.
func (p phase) patience() time.Duration {
	if p == young {
		return youngPause
	}
	return pause
}

// attempt is one that was admitted, or waits for that.
type attempt struct {
	admitted chan struct{}
	cancel   context.CancelCauseFunc
	phase    phase
	since    time.Time // of the last block, or of the admission
	check    *time.Timer
}

func newSlots(size int) *slots { return &slots{size: size, now: time.Now} }

// workers is how many attempts have to be able to ask for admission, so that there are
// always some that wait.
func (s *slots) workers() int { return s.size * (1 + youngPerSlot + standingPerSlot + 1) }

// enter waits until an attempt may begin: with a slot (moving), or without one (young). The
// context that it returns ends when the attempt has to. Call leave after it.
func (s *slots) enter(ctx context.Context, as phase) (context.Context, *attempt, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	a := &attempt{admitted: make(chan struct{}), cancel: cancel, phase: as}
	s.mu.Lock()
	s.waiting = append(s.waiting, a)
	s.admit()
	s.mu.Unlock()
	select {
	case <-a.admitted:
		return ctx, a, nil
	case <-ctx.Done():
		s.leave(a)
		return ctx, nil, context.Cause(ctx)
	}
}

// admit admits those that wait, as far as there is room. One that needs no slot does not
// wait behind one that does, nor the other way round. The caller has locked mu.
func (s *slots) admit() {
	s.waiting = slices.DeleteFunc(s.waiting, func(a *attempt) bool {
		if s.count(moving) >= s.size || a.phase == young && (s.count(young) >= s.size*youngPerSlot || !s.evict()) {
			return false
		}
		a.since = s.now()
		a.check = time.AfterFunc(a.phase.patience(), func() { s.look(a) })
		s.all = append(s.all, a)
		close(a.admitted)
		return true
	})
}

func (s *slots) count(p phase) int {
	n := 0
	for _, a := range s.all {
		if a.phase == p {
			n++
		}
	}
	return n
}

// look takes an attempt's slot or place away if no block came for a while.
func (s *slots) look(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.all, a) || a.phase == ending {
		return
	}
	if left := a.phase.patience() - s.now().Sub(a.since); left > 0 && a.phase != standing {
		a.check.Reset(left)
		return
	}
	if a.phase != standing {
		a.phase = standing
		a.check.Reset(chance - s.now().Sub(a.since)) // from when on it can make room
	}
	s.admit()
}

// evict says whether there is room for one more that may come to stand. It makes some by
// ending the attempt that stands for the longest time, if that has had its chance.
func (s *slots) evict() bool {
	if s.count(standing)+s.count(young) < s.size*standingPerSlot {
		return true
	}
	var oldest *attempt
	for _, a := range s.all {
		if a.phase == standing && (oldest == nil || a.since.Before(oldest.since)) {
			oldest = a
		}
	}
	if oldest == nil || s.now().Sub(oldest.since) < chance {
		return false
	}
	oldest.phase = ending
	oldest.cancel(errCrowded)
	return true
}

// moved says that a block came. The attempt takes a slot, even if there is none: the node is
// at it.
func (s *slots) moved(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.phase == ending {
		return // it came too late
	}
	if a.phase == standing {
		a.check.Reset(pause)
	}
	a.phase, a.since = moving, s.now()
}

func (s *slots) leave(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := func(b *attempt) bool { return a == b }
	s.all = slices.DeleteFunc(s.all, same)
	s.waiting = slices.DeleteFunc(s.waiting, same)
	if a.check != nil {
		a.check.Stop()
	}
	a.cancel(nil)
	s.admit()
}

// stalled counts the attempts for which no block came for a while.
func (s *slots) stalled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count(standing)
}
