package commit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/state"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/placement"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/requests"
)

// ErrShuttingDown is what a change gets that comes after Shutdown was called.
var ErrShuttingDown = errors.New("this peer is shutting down: try another one")

// loadWait is how long a change waits for the pinset to be loaded. It
// bounds how long a shutdown waits for a start.
const loadWait = 5 * time.Second

// Consensus is a consensus with changes in groups. Its methods are
// safe for concurrent use.
type Consensus struct {
	ipfscluster.Consensus
	queue *queue
}

// Wrap returns the consensus with changes in groups of up to max operations.
// The inner one's State must be a [*placement.State], and nobody else may log changes to it.
// A change of pins is answered after reached has returned, which waits until the other
// peers have it.
func Wrap(inner ipfscluster.Consensus, max int, reached func(context.Context)) *Consensus {
	return &Consensus{Consensus: inner, queue: newQueue(max, reached, func(ctx context.Context) (batch, error) {
		ctx, cancel := context.WithTimeout(ctx, loadWait)
		defer cancel()
		st, err := inner.State(ctx)
		if err != nil {
			return nil, fmt.Errorf("the pinset is still being loaded, try again: %w", err)
		}
		b, ok := st.(batch)
		if !ok {
			return nil, fmt.Errorf("the pinset (%T) takes no batches", st)
		}
		return b, nil
	})}
}

// LogPin adds or replaces a pin. It is durable when LogPin returns nil.
func (c *Consensus) LogPin(ctx context.Context, pin api.Pin) error {
	return c.queue.log(ctx, operation{pin: pin})
}

// LogUnpin removes a pin. The removal is durable when LogUnpin returns nil.
func (c *Consensus) LogUnpin(ctx context.Context, pin api.Pin) error {
	return c.queue.log(ctx, operation{pin: pin, remove: true})
}

// Read returns a pin and the version of its record, or [state.ErrNotFound].
func (c *Consensus) Read(ctx context.Context, id api.Cid) (api.Pin, placement.Version, error) {
	pins, err := c.queue.pinset(ctx)
	if err != nil {
		return api.Pin{}, "", err
	}
	return pins.Read(ctx, id)
}

// Place says where the copies of a pin are, and where it belongs. If its record is not the
// one of the version any more when its turn comes, the error is [placement.ErrChanged]. It is
// durable when Place returns nil.
func (c *Consensus) Place(ctx context.Context, pin api.Pin, v placement.Version) error {
	return c.queue.log(ctx, operation{pin: pin, of: v})
}

// Drop removes one of the requests that a pin stands for, and the pin with the last of them. If there is no
// such pin, the error is [state.ErrNotFound]; if there is no such request, [requests.ErrNotFound]. It is
// durable when Drop returns nil.
func (c *Consensus) Drop(ctx context.Context, id api.Cid, requestID string) error {
	return c.queue.log(ctx, operation{pin: api.PinCid(id), drop: requestID})
}

// Last returns the CID of the newest change that this process has written, and
// whether it removed the pin; ok is false if there was none. A peer that knows
// it has received all pins that were written before. Placements do not count.
func (c *Consensus) Last() (cid api.Cid, removed, ok bool) {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	last := c.queue.last
	return last.pin.Cid, last.remove, last.done != nil
}

// Shutdown finishes the changes that were taken, and shuts the inner consensus
// down.
func (c *Consensus) Shutdown(ctx context.Context) error {
	c.queue.close()
	return c.Consensus.Shutdown(ctx)
}

// batch is the pinset, a [*placement.State].
type batch interface {
	Read(context.Context, api.Cid) (api.Pin, placement.Version, error)
	Add(context.Context, api.Pin) error
	Rm(context.Context, api.Cid) error
	Place(context.Context, api.Pin, placement.Version) error
	Commit(context.Context) error
}

type operation struct {
	pin    api.Pin
	remove bool
	of     placement.Version // not empty: only where the pin is changes
	drop   string            // not empty: the request that goes
	done   chan error        // receives the one result
}

// queue gathers operations while a group is being committed.
type queue struct {
	max       int
	reached   func(context.Context)
	pinset    func(context.Context) (batch, error)
	ctx       context.Context // of the commits: a client that goes away does not stop the others
	stop      context.CancelFunc
	ended     chan struct{}
	answering sync.WaitGroup // of groups that are committed

	mu      sync.Mutex
	closed  bool
	waiting []operation
	last    operation     // of the newest group that was committed
	work    chan struct{} // has room for one: something is waiting, or closed
}

func newQueue(max int, reached func(context.Context), pinset func(context.Context) (batch, error)) *queue {
	ctx, stop := context.WithCancel(context.Background())
	q := &queue{max: max, reached: reached, pinset: pinset, ctx: ctx, stop: stop, ended: make(chan struct{}), work: make(chan struct{}, 1)}
	go q.run()
	return q
}

// log queues an operation and waits for its result. If the context ends first
// the operation may still take place.
func (q *queue) log(ctx context.Context, op operation) error {
	op.done = make(chan error, 1)
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrShuttingDown
	}
	q.waiting = append(q.waiting, op)
	q.mu.Unlock()
	q.wake()
	select {
	case err := <-op.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s: whether the change was written is not known: %w", op.pin.Cid, context.Cause(ctx))
	}
}

func (q *queue) wake() {
	select {
	case q.work <- struct{}{}:
	default: // it is awake
	}
}

// close refuses further operations and waits for those that were taken.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake()
	<-q.ended
	q.answering.Wait()
	q.stop()
}

func (q *queue) run() {
	defer close(q.ended)
	for range q.work {
		for {
			group, closed := q.next()
			if len(group) > 0 {
				q.commit(group)
				continue
			}
			if closed {
				return
			}
			break
		}
	}
}

// next takes the operations of the next group: as many as there are, up to the
// first CID that occurs again.
func (q *queue) next() (group []operation, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	seen := map[string]bool{}
	for _, op := range q.waiting {
		key := op.pin.Cid.Cid.KeyString()
		if len(group) == q.max || seen[key] {
			break
		}
		seen[key] = true
		group = append(group, op)
	}
	q.waiting = q.waiting[len(group):]
	if len(q.waiting) == 0 {
		q.waiting = nil // let go of the array
	}
	return group, q.closed
}

func (q *queue) commit(group []operation) {
	pinset, err := q.pinset(q.ctx)
	if err != nil {
		answer(group, fmt.Errorf("change the pinset: %w", err))
		return
	}
	added := group[:0:0]
	for _, op := range group {
		switch {
		case op.remove:
			err = pinset.Rm(q.ctx, op.pin.Cid)
		case op.of != "":
			err = pinset.Place(q.ctx, op.pin, op.of)
		case op.drop != "":
			op.remove, err = q.drop(pinset, op.pin.Cid, op.drop)
		default:
			err = q.add(pinset, op.pin)
		}
		if err != nil {
			op.done <- err
			continue
		}
		added = append(added, op)
	}
	if len(added) == 0 {
		return
	}
	if err := pinset.Commit(q.ctx); err != nil {
		answer(added, fmt.Errorf("write the change to the pinset: %w", err))
		return
	}
	pins := false
	q.mu.Lock()
	for _, op := range added {
		if op.of == "" {
			q.last, pins = op, true
		}
	}
	q.mu.Unlock()
	if !pins {
		answer(added, nil)
		return
	}
	// The next group need not wait.
	q.answering.Go(func() {
		q.reached(q.ctx)
		answer(added, nil)
	})
}

// add adds a pin. One that is there keeps its name, metadata and origins where the new
// one says nothing about them: a client that pins a CID again does not mean to forget them. It keeps the
// requests of the pinning service in any case.
func (q *queue) add(pinset batch, pin api.Pin) error {
	if pin.PinUpdate.Defined() {
		// ipfs-cluster copies the metadata of the pin that this one is made from.
		pin.Metadata = maps.Clone(pin.Metadata)
		delete(pin.Metadata, requests.Key)
	}
	was, _, err := pinset.Read(q.ctx, pin.Cid)
	switch {
	case errors.Is(err, state.ErrNotFound):
	case err != nil:
		return fmt.Errorf("read the pin that is there: %w", err)
	default:
		if pin.Name == "" {
			pin.Name = was.Name
		}
		if len(requests.Client(pin.Metadata)) == 0 {
			pin.Metadata = requests.Keep(placement.Homed(was.Metadata, ""), pin.Metadata)
		}
		if len(pin.Origins) == 0 {
			pin.Origins = was.Origins
		}
		if pin, err = requests.Merge(was, pin); err != nil {
			return err
		}
	}
	return pinset.Add(q.ctx, pin)
}

// drop removes one of the requests of a pin, and reports whether the pin went with it.
func (q *queue) drop(pinset batch, id api.Cid, requestID string) (removed bool, err error) {
	was, _, err := pinset.Read(q.ctx, id)
	if err != nil {
		return false, err
	}
	left, any, err := requests.Without(was, requestID)
	if err != nil {
		return false, err
	}
	if !any {
		return true, pinset.Rm(q.ctx, id)
	}
	return false, pinset.Add(q.ctx, left)
}

func answer(group []operation, err error) {
	for _, op := range group {
		op.done <- err
	}
}
