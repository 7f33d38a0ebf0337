package adds

import (
	"context"
	"sync"
)

// session is one run of `ipfs add`. It numbers the writes that it accepts, and
// knows up to which of them all are durable. Safe for concurrent use.
type session struct {
	// ctx is the command's: when it is cancelled, so are the writes.
	ctx context.Context

	mu       sync.Mutex
	changed  *sync.Cond
	accepted uint64          // number of the last write; the first is 1
	firm     uint64          // this write is durable, and so are all before it
	above    map[uint64]bool // writes above firm that are durable
	flying   int             // writes that have not ended
	failed   uint64          // the lowest write that failed; 0: none
	err      error           // its error
	ended    bool
}

type sessionKey struct{}

// begin starts a session and returns the context that carries it.
func begin(ctx context.Context) (context.Context, *session) {
	s := &session{ctx: ctx, above: map[uint64]bool{}}
	s.changed = sync.NewCond(&s.mu)
	return context.WithValue(ctx, sessionKey{}, s), s
}

// sessionOf is the session that ctx carries, or nil.
func sessionOf(ctx context.Context) *session {
	s, _ := ctx.Value(sessionKey{}).(*session)
	return s
}

// accept counts one more write; it must be followed by tell and finish. It fails with the
// error of an earlier write. After the end of the session it answers 0: the
// caller then has to write by itself.
func (s *session) accept() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return 0, s.err
	case s.ended:
		return 0, nil
	}
	s.accepted++
	s.flying++
	return s.accepted, nil
}

// tell says how a write went: with no error it is durable.
func (s *session) tell(n uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.failed == 0 || n < s.failed {
			s.failed, s.err = n, err
		}
	} else {
		s.above[n] = true
		for s.above[s.firm+1] {
			s.firm++
			delete(s.above, s.firm)
		}
	}
	s.changed.Broadcast()
}

// finish says that nothing is left of a write that was told.
func (s *session) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flying--
	s.changed.Broadcast()
}

// failure is the error of the lowest write that failed, or nil.
func (s *session) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// mark is the number of the last write accepted, for wait.
func (s *session) mark() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// wait returns when write n and all before it are durable, or with the error of
// one of them.
func (s *session) wait(n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.firm < n {
		if s.failed != 0 && s.failed <= n {
			return s.err
		}
		s.changed.Wait()
	}
	return nil
}

// sync returns when everything accepted so far is durable, or with the error of
// any write of the session.
func (s *session) sync() error {
	if err := s.wait(s.mark()); err != nil {
		return err
	}
	return s.failure()
}

// end lets all writes end, durable or not, and returns the error of the first
// that failed. Nothing is accepted afterwards.
func (s *session) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for s.flying > 0 {
		s.changed.Wait()
	}
	return s.err
}
