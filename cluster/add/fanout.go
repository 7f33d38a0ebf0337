package add

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/adder"
	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// window is how many blocks a destination may lag behind the source: 16 MiB
	// of 256 KiB blocks, two of the node's batches of 8 MiB, so that it has the
	// next one at hand while it writes.
	window = 64

	// stallLimit is how long a destination may take no block at all while its
	// window is full. A bucket that throttles makes pauses of seconds.
	stallLimit = time.Minute
)

// Missing is a destination that does not hold the content of an add.
type Missing struct {
	Peer  peer.ID `json:"peer"`
	Name  string  `json:"peername,omitempty"`
	Error string  `json:"error"`
}

// cluster is what an add needs of the cluster.
type cluster interface {
	// Allocate chooses the peers for a pin with these options.
	Allocate(context.Context, api.PinOptions) ([]peer.ID, error)
	// Stream sends blocks to a peer's node until the channel is closed, and
	// returns when they are stored there.
	Stream(ctx context.Context, dest peer.ID, blocks <-chan api.NodeWithMeta) error
	// Pin adds a pin to the pinset.
	Pin(context.Context, api.Pin) error
	// Self is this peer.
	Self() peer.ID
}

// Fanout sends the blocks of one add to all its destinations, and pins its
// root. It implements ipfs-cluster's ClusterDAGService: Add is called by one
// goroutine, then Finalize, then Close.
type Fanout struct {
	adder.BaseDAGService

	ctx     context.Context
	cluster cluster
	params  api.AddParams
	minimum int // copies that there must be
	stall   time.Duration

	allocated []peer.ID
	dests     []*destination
	recent    [2]cid.Cid
	closeOnce sync.Once
}

// destination is one peer that receives the blocks.
type destination struct {
	id     peer.ID
	blocks chan api.NodeWithMeta
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when err is set
	err    error
	failed bool // the source has noticed
}

// newFanout returns a Fanout for one add. ctx ends it; minimum is the fewest
// destinations that make it a success.
func newFanout(ctx context.Context, c cluster, params api.AddParams, minimum int) *Fanout {
	params.Mode = api.PinModeRecursive // what is added is never pinned without its blocks
	return &Fanout{ctx: ctx, cluster: c, params: params, minimum: max(minimum, 1), stall: stallLimit}
}

func (f *Fanout) start(ctx context.Context) error {
	allocated, err := f.cluster.Allocate(ctx, f.params.PinOptions)
	if err != nil {
		return err
	}
	if len(allocated) == 0 {
		return errors.New("there is no peer to add to")
	}
	self := f.cluster.Self()
	for i, id := range allocated {
		if id == "" {
			allocated[i] = self
		}
	}
	targets := allocated
	if f.params.Local {
		if len(f.params.UserAllocations) == 0 && !slices.Contains(allocated, self) {
			allocated[len(allocated)-1] = self
		}
		targets = []peer.ID{self}
		f.minimum = 1
	}
	f.allocated = allocated
	for _, id := range targets {
		dctx, cancel := context.WithCancelCause(f.ctx)
		d := &destination{id: id, blocks: make(chan api.NodeWithMeta, window), ctx: dctx, cancel: cancel, done: make(chan struct{})}
		go func() {
			defer close(d.done)
			d.err = f.cluster.Stream(dctx, d.id, d.blocks)
			if cause := context.Cause(dctx); cause != nil {
				d.err = cause // says more than "canceled"
			}
			cancel(d.err)
		}()
		f.dests = append(f.dests, d)
	}
	return nil
}

// Add sends a block to every destination that is left. It fails if too few are.
func (f *Fanout) Add(ctx context.Context, node ipld.Node) error {
	// The adder hands over some blocks twice in a row.
	if slices.Contains(f.recent[:], node.Cid()) {
		return nil
	}
	if f.dests == nil {
		if err := f.start(ctx); err != nil {
			return err
		}
	}
	f.recent[0], f.recent[1] = f.recent[1], node.Cid()
	block := adder.IpldNodeToNodeWithMeta(node)
	for _, d := range f.dests {
		if d.failed {
			continue
		}
		if err := f.send(ctx, d, block); err != nil {
			return err
		}
	}
	if left := f.left(); left < f.minimum {
		return f.tooFew(left)
	}
	return nil
}

// AddMany calls Add for every node.
func (f *Fanout) AddMany(ctx context.Context, nodes []ipld.Node) error {
	for _, n := range nodes {
		if err := f.Add(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// send passes one block to one destination, or marks it as failed. An error
// means that the add as a whole has ended.
func (f *Fanout) send(ctx context.Context, d *destination, block api.NodeWithMeta) error {
	select {
	case <-d.done:
		d.failed = true
		return nil
	case d.blocks <- block:
		return nil
	default:
	}
	stalled := time.NewTimer(f.stall)
	defer stalled.Stop()
	select {
	case d.blocks <- block:
	case <-d.done:
		d.failed = true
	case <-stalled.C:
		d.failed = true
		d.cancel(fmt.Errorf("it took no block for %s", f.stall))
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
	return nil
}

// Finalize waits until the destinations have stored everything, and pins the
// root. Destinations that the rest had to wait for too long are left behind.
func (f *Fanout) Finalize(ctx context.Context, root api.Cid) (api.Cid, error) {
	f.closeChannels()
	held, err := f.await(ctx)
	if err != nil {
		return root, err
	}
	if held < f.minimum {
		return root, f.tooFew(held)
	}
	if f.params.NoPin {
		return root, nil
	}
	pin := api.PinWithOpts(root, f.params.PinOptions)
	pin.Allocations = f.allocated
	return root, f.cluster.Pin(ctx, pin)
}

// await returns how many destinations have stored everything. Each may take
// as long as it goes on storing, but no longer than the stall limit after the
// first one was done.
func (f *Fanout) await(ctx context.Context) (held int, err error) {
	ready := make(chan *destination, len(f.dests))
	waiting := 0
	for _, d := range f.dests {
		if d.failed {
			continue
		}
		waiting++
		go func() { <-d.done; ready <- d }()
	}
	var late <-chan time.Time
	for waiting > 0 {
		select {
		case d := <-ready:
			waiting--
			if d.err != nil {
				d.failed = true
				continue
			}
			held++
			if late == nil {
				timer := time.NewTimer(f.stall)
				defer timer.Stop()
				late = timer.C
			}
		case <-late:
			for _, d := range f.dests {
				select {
				case <-d.done:
					d.failed = d.failed || d.err != nil
				default:
					d.failed = true
					d.cancel(fmt.Errorf("it was not done %s after the first one", f.stall))
				}
			}
			return f.left(), nil
		case <-ctx.Done():
			return held, context.Cause(ctx)
		case <-f.ctx.Done():
			return held, context.Cause(f.ctx)
		}
	}
	return held, nil
}

// left counts the destinations that have not failed.
func (f *Fanout) left() int {
	n := 0
	for _, d := range f.dests {
		if !d.failed {
			n++
		}
	}
	return n
}

// Missing are the destinations that do not hold everything. Call it after
// Finalize.
func (f *Fanout) Missing() []Missing {
	var out []Missing
	for _, d := range f.dests {
		if !d.failed {
			continue
		}
		m := Missing{Peer: d.id, Error: "it ended before the add did"}
		if cause := context.Cause(d.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			m.Error = cause.Error()
		}
		out = append(out, m)
	}
	return out
}

func (f *Fanout) tooFew(left int) error {
	errs := []error{fmt.Errorf("only %d of %d destinations are left, %d are needed", left, len(f.dests), f.minimum)}
	for _, m := range f.Missing() {
		errs = append(errs, fmt.Errorf("%s: %s", m.Peer, m.Error))
	}
	return errors.Join(errs...)
}

func (f *Fanout) closeChannels() {
	f.closeOnce.Do(func() {
		for _, d := range f.dests {
			close(d.blocks)
		}
	})
}

// Close ends all streams that are still running.
func (f *Fanout) Close() error {
	for _, d := range f.dests {
		d.cancel(context.Canceled)
	}
	f.closeChannels()
	return nil
}

// Allocations are the peers that the content is allocated to.
func (f *Fanout) Allocations() []peer.ID { return f.allocated }
