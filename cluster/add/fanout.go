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
	"golang.org/x/sync/errgroup"
)

const (
	// window is how many blocks a destination may lag behind the source: 16 MiB
	// of 256 KiB blocks, two of the node's batches of 8 MiB, so that it has the
	// next one at hand while it writes.
	window = 64

	// stallLimit is how long a destination may take no block at all while its
	// window is full, and how long the others wait for it at the end. A bucket that throttles makes
	// pauses of seconds. One that stands still costs an add this long twice, the second time when it is sent
	// the content again: 40 s, and a client behind CloudFront waits for 60 s.
	stallLimit = 20 * time.Second

	// pinTimeout is how long writing the pin may take: one change on this peer's disk.
	pinTimeout = time.Minute

	// pinsAtOnce is how many roots of CAR files are pinned at a time. Those that arrive together become
	// one change.
	pinsAtOnce = 64

	// endTimeout is how long the client may have to wait for a destination to note how
	// the add ended, which is one message and, if it failed, one entry in an index.
	endTimeout = 5 * time.Second
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
	// Stream sends blocks to the nodes of one or two peers until the channel is
	// closed, and returns when they are stored there, with an error for each peer
	// where they are not. The first peer passes on to the second what it receives.
	Stream(ctx context.Context, dests []peer.ID, blocks <-chan api.NodeWithMeta) []error
	// Copy sends everything below a CID from this peer's node to another one's. It
	// calls moved whenever a part of it has been taken.
	Copy(ctx context.Context, dest peer.ID, root cid.Cid, moved func()) error
	// Hold makes a peer's node hold everything below a root, of which the CIDs to check
	// are not known to have been stored. The error is an [*Incomplete] if blocks are
	// missing there.
	Hold(ctx context.Context, dest peer.ID, root cid.Cid, check []cid.Cid) (Hold, error)
	// Pin adds a pin to the pinset.
	Pin(context.Context, api.Pin) error
	// Self is this peer.
	Self() peer.ID
}

// Fanout sends the blocks of one add to all its destinations, makes them hold its
// root, and pins that. It implements ipfs-cluster's ClusterDAGService: Add is called by one
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
	lanes     []*lane
	links     *links // of a CAR file, otherwise nil
	recent    [2]cid.Cid
	closeOnce sync.Once
	// failure is the first error that was returned to the adder, which may be the
	// client's fault only if it is an [*Incomplete].
	failure error
}

// destination is one peer that receives the blocks.
type destination struct {
	id  peer.ID
	err error // why it does not hold the content; valid when its lane has ended
	// holds are its node's holds of the roots, until the add has ended.
	holds []Hold
}

// lane is one stream of blocks to one or two destinations. Encrypting what goes
// out is most of what an add costs the peer where it arrives, so two of its
// destinations share that: it sends to one, and that one to the other.
type lane struct {
	dests  []*destination
	blocks chan api.NodeWithMeta
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the errors of the destinations are set
	failed bool          // the source has noticed that it ended early
}

// newFanout returns a Fanout for one add. ctx ends it; minimum is the fewest
// destinations that make it a success.
func newFanout(ctx context.Context, c cluster, params api.AddParams, minimum int) *Fanout {
	params.Mode = api.PinModeRecursive // what is added is never pinned without its blocks
	f := &Fanout{ctx: ctx, cluster: c, params: params, minimum: max(minimum, 1), stall: stallLimit}
	if params.Format == "car" {
		f.links = newLinks()
	}
	return f
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
	for _, ids := range lanes(self, targets) {
		f.open(ids)
	}
	return nil
}

// lanes divides the destinations up. Two share a lane only if this peer's own
// node receives the content as well: it can then make up for a first one that
// fails the second.
func lanes(self peer.ID, targets []peer.ID) [][]peer.ID {
	if !slices.Contains(targets, self) {
		return slices.Collect(slices.Chunk(targets, 1))
	}
	others := slices.DeleteFunc(slices.Clone(targets), func(id peer.ID) bool { return id == self })
	return append([][]peer.ID{{self}}, slices.Collect(slices.Chunk(others, 2))...)
}

func (f *Fanout) open(ids []peer.ID) {
	ctx, cancel := context.WithCancelCause(f.ctx)
	l := &lane{blocks: make(chan api.NodeWithMeta, window), ctx: ctx, cancel: cancel, done: make(chan struct{})}
	for _, id := range ids {
		l.dests = append(l.dests, &destination{id: id})
	}
	f.dests = append(f.dests, l.dests...)
	f.lanes = append(f.lanes, l)
	go func() {
		defer close(l.done)
		for i, err := range f.cluster.Stream(ctx, ids, l.blocks) {
			l.dests[i].err = err
		}
		if cause := context.Cause(ctx); cause != nil {
			for _, d := range l.dests {
				d.err = cause // says more than "canceled"
			}
		}
		cancel(nil)
	}()
}

// Add sends a block to every destination that is left. It fails if too few are.
func (f *Fanout) Add(ctx context.Context, node ipld.Node) error {
	// The adder hands over some blocks twice in a row.
	if slices.Contains(f.recent[:], node.Cid()) {
		return nil
	}
	err := f.add(ctx, node)
	if err != nil && f.failure == nil {
		f.failure = err
	}
	return err
}

func (f *Fanout) add(ctx context.Context, node ipld.Node) error {
	if f.links != nil {
		if err := f.links.add(node); err != nil {
			return err
		}
	}
	if f.lanes == nil {
		if err := f.start(ctx); err != nil {
			return err
		}
	}
	f.recent[0], f.recent[1] = f.recent[1], node.Cid()
	block := adder.IpldNodeToNodeWithMeta(node)
	for _, l := range f.lanes {
		if l.failed {
			continue
		}
		if err := f.send(ctx, l, block); err != nil {
			return err
		}
	}
	if n := f.reachable(); n < f.minimum {
		return f.tooFew(n)
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

// send passes one block to one lane, or marks it as failed. An error means that
// the add as a whole has ended.
func (f *Fanout) send(ctx context.Context, l *lane, block api.NodeWithMeta) error {
	select {
	case <-l.done:
		l.failed = true
		return nil
	case l.blocks <- block:
		return nil
	default:
	}
	stalled := time.NewTimer(f.stall)
	defer stalled.Stop()
	select {
	case l.blocks <- block:
	case <-l.done:
		l.failed = true
	case <-stalled.C:
		l.failed = true
		l.cancel(fmt.Errorf("it took no block for %s", f.stall))
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
	return nil
}

// Finalize waits until the destinations have stored everything and hold the root, and
// pins it. Destinations that the rest had to wait for too long are left behind. If it
// fails, no destination holds the root because of this add.
func (f *Fanout) Finalize(ctx context.Context, root api.Cid) (api.Cid, error) {
	return root, f.FinalizeAll(ctx, []cid.Cid{root.Cid})
}

// FinalizeAll is Finalize for several roots, of which none is pinned if a destination that is needed does not
// hold all of them.
func (f *Fanout) FinalizeAll(ctx context.Context, roots []cid.Cid) error {
	err := f.finalize(ctx, roots)
	if err != nil && f.failure == nil {
		f.failure = err
	}
	return err
}

func (f *Fanout) finalize(ctx context.Context, roots []cid.Cid) error {
	if f.lanes == nil { // a CAR file without blocks
		if err := f.start(ctx); err != nil {
			return err
		}
	}
	f.closeChannels()
	if err := f.await(ctx); err != nil {
		return err
	}
	f.makeUp(ctx, roots)
	keep := make([]bool, len(roots))
	defer func() { f.endHolds(ctx, keep) }()
	checks := make([][]cid.Cid, len(roots))
	looked, open := false, false
	for i, root := range roots {
		// What leads out of the file is looked up once, with the first root that came.
		if f.links == nil || !f.links.has(root) || !looked {
			checks[i] = f.links.unresolved(root)
			looked = looked || f.links != nil && f.links.has(root)
		}
		open = open || len(checks[i]) > 0
	}
	incomplete := f.hold(ctx, roots, checks)
	// Blocks that are missing although they came are not the client's fault.
	if !open && !f.links.tooMany() {
		incomplete = nil
	}
	switch n := f.held(); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case f.ctx.Err() != nil:
		return context.Cause(f.ctx)
	case n < f.minimum && incomplete != nil && n+f.incomplete() >= f.minimum:
		return incomplete
	case n < f.minimum:
		return f.tooFew(n)
	case f.params.NoPin:
		return nil // what was stored a moment ago is all that protects it
	}
	// A client that goes away now must not make it unknown whether there is a pin.
	pinning, cancel := context.WithTimeout(context.WithoutCancel(ctx), pinTimeout)
	defer cancel()
	var pins errgroup.Group
	pins.SetLimit(pinsAtOnce)
	for i, root := range roots {
		pins.Go(func() error {
			pin := api.PinWithOpts(api.NewCid(root), f.params.PinOptions)
			pin.Allocations = slices.Clone(f.allocated)
			err := f.cluster.Pin(pinning, pin)
			keep[i] = err == nil
			return err
		})
	}
	err := pins.Wait()
	if err != nil && len(roots) > 1 {
		n := len(roots) - len(slices.DeleteFunc(slices.Clone(keep), func(kept bool) bool { return kept }))
		err = fmt.Errorf("%d of the %d roots are pinned: %w", n, len(roots), err)
	}
	return err
}

// blames says whether an add failed because of what the client sent: a CAR file that
// cannot be read to its end, or is not complete.
func (f *Fanout) blames(err error) bool {
	var incomplete *Incomplete
	switch {
	case err == nil || f.ctx.Err() != nil || f.params.Format != "car":
		return false
	case f.failure == nil:
		return true // the reader's
	}
	return errors.As(f.failure, &incomplete)
}

// hold makes all destinations that have stored everything hold the roots, side by side.
// checks are the links that lead out of a CAR file. It returns one of the errors of those that
// lack blocks.
func (f *Fanout) hold(ctx context.Context, roots []cid.Cid, checks [][]cid.Cid) (incomplete *Incomplete) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(f.ctx, func() { cancel(context.Cause(f.ctx)) })()
	var holds sync.WaitGroup
	for _, d := range f.dests {
		if d.err == nil {
			holds.Go(func() { d.err = f.holdOn(ctx, d, roots, checks) })
		}
	}
	holds.Wait()
	for _, d := range f.dests {
		errors.As(d.err, &incomplete)
	}
	return incomplete
}

// holdOn makes one destination hold the roots, one after the other.
func (f *Fanout) holdOn(ctx context.Context, d *destination, roots []cid.Cid, checks [][]cid.Cid) error {
	for i, root := range roots {
		h, err := f.cluster.Hold(ctx, d.id, root, checks[i])
		if err != nil {
			return err
		}
		d.holds = append(d.holds, h)
	}
	return nil
}

// incomplete counts the destinations that lack blocks.
func (f *Fanout) incomplete() int {
	n := 0
	for _, d := range f.dests {
		var lacks *Incomplete
		if errors.As(d.err, &lacks) {
			n++
		}
	}
	return n
}

// endHolds says to all that hold roots how the add ended, for each root.
func (f *Fanout) endHolds(ctx context.Context, keep []bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	var ends sync.WaitGroup
	for _, d := range f.dests {
		ends.Go(func() {
			for i, h := range d.holds {
				if err := h.End(ctx, keep[i]); err != nil {
					// It keeps the pin, which its sweep removes if it is not in the pinset.
					logger.Warnf("an add has ended (pinned: %v), and peer %s could not note that: %s", keep[i], d.id, err)
				}
			}
			d.holds = nil
		})
	}
	ends.Wait()
}

// await returns when all lanes have ended. Each may take as long as it goes on
// storing, but no longer than the stall limit after the first one was done.
func (f *Fanout) await(ctx context.Context) error {
	ready := make(chan *lane, len(f.lanes))
	for _, l := range f.lanes {
		go func() { <-l.done; ready <- l }()
	}
	var late <-chan time.Time
	for range f.lanes {
		for waiting := true; waiting; {
			select {
			case l := <-ready:
				waiting = false
				if late == nil && slices.ContainsFunc(l.dests, func(d *destination) bool { return d.err == nil }) {
					timer := time.NewTimer(f.stall)
					defer timer.Stop()
					late = timer.C
				}
			case <-late:
				for _, l := range f.lanes {
					l.cancel(fmt.Errorf("it was not done %s after the first one", f.stall))
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-f.ctx.Done():
				return context.Cause(f.ctx)
			}
		}
	}
	return nil
}

// makeUp sends what is pinned once more, from this peer's node, to those who
// shared a lane and do not hold it: it may have been the other one's fault. All
// lanes have ended.
func (f *Fanout) makeUp(ctx context.Context, roots []cid.Cid) {
	if !slices.ContainsFunc(f.dests, func(d *destination) bool { return d.id == f.cluster.Self() && d.err == nil }) {
		return
	}
	var copies sync.WaitGroup
	for _, l := range f.lanes {
		if len(l.dests) == 1 {
			continue
		}
		for _, d := range l.dests {
			if d.err != nil {
				copies.Go(func() { d.err = f.copy(ctx, d, roots) })
			}
		}
	}
	copies.Wait()
}

// copy sends the content from this peer's node to one destination, for as long
// as that takes some of it within the stall limit.
func (f *Fanout) copy(ctx context.Context, d *destination, roots []cid.Cid) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(f.ctx, func() { cancel(context.Cause(f.ctx)) })()
	stalled := time.AfterFunc(f.stall, func() { cancel(fmt.Errorf("it took no block for %s", f.stall)) })
	defer stalled.Stop()
	for _, root := range roots {
		if err := f.cluster.Copy(ctx, d.id, root, func() { stalled.Reset(f.stall) }); err != nil {
			return fmt.Errorf("%w; once more: %w", d.err, err)
		}
	}
	return nil
}

// reachable counts the destinations whose lanes have not failed, and those that
// can be made up for. It is for the time before the lanes have ended.
func (f *Fanout) reachable() int {
	n, whole := 0, false
	for _, l := range f.lanes {
		whole = whole || !l.failed && l.dests[0].id == f.cluster.Self()
	}
	for _, l := range f.lanes {
		switch {
		case !l.failed:
			n += len(l.dests)
		case len(l.dests) > 1 && whole:
			n++ // one of two may have failed the other
		}
	}
	return n
}

// held counts the destinations that hold the content. All lanes have ended.
func (f *Fanout) held() int {
	n := 0
	for _, d := range f.dests {
		if d.err == nil {
			n++
		}
	}
	return n
}

// Missing are the destinations that do not hold everything. Call it after
// Finalize.
func (f *Fanout) Missing() []Missing {
	var out []Missing
	for _, l := range f.lanes {
		for _, d := range l.dests {
			if err := l.why(d); err != nil {
				out = append(out, Missing{Peer: d.id, Error: err.Error()})
			}
		}
	}
	return out
}

// why is the error of a destination of the lane, as far as it is known.
func (l *lane) why(d *destination) error {
	select {
	case <-l.done:
		return d.err
	default:
		return context.Cause(l.ctx)
	}
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
		for _, l := range f.lanes {
			close(l.blocks)
		}
	})
}

// Close ends all streams that are still running.
func (f *Fanout) Close() error {
	for _, l := range f.lanes {
		l.cancel(context.Canceled)
	}
	f.closeChannels()
	return nil
}

// Allocations are the peers that the content is allocated to.
func (f *Fanout) Allocations() []peer.ID { return f.allocated }
