package adds

import (
	"sync"

	cmds "github.com/ipfs/go-ipfs-cmds"
)

// maxHeld is how many events wait for their blocks before the command does. An
// event is some 200 bytes, and stands for at least one write that is under way,
// or one that was not necessary.
const maxHeld = 1024

// Extend lets the command `ipfs add` run in a session. Its options, encoders and
// what comes before and after Run stay as they are.
//
// upstream: adder-context
func Extend(add *cmds.Command) {
	run := add.Run
	add.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		// A copy: others read the request's context while the command runs.
		inSession := *req
		ctx, s := begin(req.Context)
		inSession.Context = ctx
		held := hold(res, s)
		err := run(&inSession, held, env)
		if failed := s.end(); err == nil {
			err = failed
		}
		if unsent := held.drain(); err == nil {
			err = unsent
		}
		return err
	}
}

// holder sends on what a command emits, in order, each event when what the
// session had accepted before it is durable.
type holder struct {
	cmds.ResponseEmitter
	session *session
	events  chan event
	drained chan struct{}

	mu  sync.Mutex
	err error // of the first event that could not be sent
}

type event struct {
	value any
	mark  uint64
}

// hold returns an emitter that must be drained before res is used again.
func hold(res cmds.ResponseEmitter, s *session) *holder {
	h := &holder{ResponseEmitter: res, session: s, events: make(chan event, maxHeld), drained: make(chan struct{})}
	go h.send()
	return h
}

func (h *holder) Emit(value any) error {
	h.mu.Lock()
	err := h.err
	h.mu.Unlock()
	if err == nil {
		h.events <- event{value, h.session.mark()}
	}
	return err
}

func (h *holder) send() {
	defer close(h.drained)
	for e := range h.events {
		h.mu.Lock()
		stopped := h.err != nil
		h.mu.Unlock()
		if stopped {
			continue
		}
		err := h.session.wait(e.mark)
		if err == nil {
			err = h.ResponseEmitter.Emit(e.value)
		}
		if err != nil {
			h.mu.Lock()
			h.err = err
			h.mu.Unlock()
		}
	}
}

// drain returns when everything has been sent that will be, with the error of
// what could not be.
func (h *holder) drain() error {
	close(h.events)
	<-h.drained
	return h.err
}
