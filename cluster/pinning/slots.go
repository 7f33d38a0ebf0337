package pinning

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// pause is how long a pin may get no block and keep its slot. A node reports twice a
	// second.
	pause = time.Second

	// stillPerSlot is how many attempts may wait for a block, for each slot. With the default
	// of ten slots they are 60: each is a goroutine here and in the node, and a block
	// that the node asks its peers for.
	stillPerSlot = 6
)

// errCrowded ends an attempt for which no block came, because others want to try.
var errCrowded = errors.New("others wait to be tried")

// slots admits attempts. It is safe for concurrent use.
type slots struct {
	size int
	now  func() time.Time

	mu      sync.Mutex
	all     []*attempt // that were admitted
	waiting []*attempt // in the order in which they came
}

// attempt is one that was admitted, or waits for that.
type attempt struct {
	admitted chan struct{}
	cancel   context.CancelCauseFunc
	still    bool      // it has no slot
	since    time.Time // of the last block, or of the admission
	check    *time.Timer
}

func newSlots(size int) *slots { return &slots{size: size, now: time.Now} }

// workers is how many attempts have to be able to ask for admission, so that there are
// always some that wait.
func (s *slots) workers() int { return s.size*stillPerSlot + 2*s.size }

// enter waits until an attempt may begin: with a slot, or without. The context that it
// returns ends when the attempt has to. Call leave after it.
func (s *slots) enter(ctx context.Context, still bool) (context.Context, *attempt, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	a := &attempt{admitted: make(chan struct{}), cancel: cancel, still: still}
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

// admit admits those that wait, as far as there is room, and makes room. The caller has
// locked mu.
func (s *slots) admit() {
	for i := 0; i < len(s.waiting); {
		a := s.waiting[i]
		moving, still := s.count()
		// Whoever has the content on the node does not wait for those that do not.
		if !a.still && moving >= s.size || a.still && (still >= s.size*stillPerSlot || moving >= s.size) {
			i++
			continue
		}
		s.waiting = slices.Delete(s.waiting, i, i+1)
		a.since = s.now()
		a.check = time.AfterFunc(pause, func() { s.look(a) })
		s.all = append(s.all, a)
		close(a.admitted)
	}
	if len(s.waiting) > 0 {
		s.evict()
	}
}

func (s *slots) count() (moving, still int) {
	for _, a := range s.all {
		if a.still {
			still++
		}
	}
	return len(s.all) - still, still
}

// evict ends the attempt that waits for a block for the longest time, if there are as
// many as may be and it has had its chance.
func (s *slots) evict() {
	if _, still := s.count(); still < s.size*stillPerSlot {
		return
	}
	var oldest *attempt
	for _, a := range s.all {
		if a.still && (oldest == nil || a.since.Before(oldest.since)) {
			oldest = a
		}
	}
	if oldest != nil && s.now().Sub(oldest.since) >= pause {
		oldest.cancel(errCrowded) // leave makes the room
	}
}

// look takes an attempt's slot away if no block came for a while.
func (s *slots) look(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.all, a) {
		return
	}
	left := pause - s.now().Sub(a.since)
	if left <= 0 {
		a.still = true
		left = pause
	}
	a.check.Reset(left)
	s.admit()
}

// moved says that a block came. It takes a slot, even if there is none: the node is at it.
func (s *slots) moved(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.still, a.since = false, s.now()
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

// standing counts the attempts for which no block came for a while.
func (s *slots) standing() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, a := range s.all {
		if a.still && s.now().Sub(a.since) >= pause {
			n++
		}
	}
	return n
}
