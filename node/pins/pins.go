// Package pins has content fetched before it is pinned, and not while a lock is held.
//
// kubo's pinner removes the record of a pin that is made again, fetches, and writes a new one: a pin that fails, or a kill
// meanwhile, loses the one that was there. Its fetch waits for ever for a block that no peer has, and reads every leaf. Here
//
//  1. the DAG is walked: each block is touched, then looked for, and fetched if it is missing. No lock is held;
//  2. then the pin is recorded, which takes as long as a write.
//
// A pin that is there with the same name is not written again. A walk that gets no new block for a while fails with
// an IncompleteError, which says what is missing; and so does, at once, one that may not ask the network.
//
// The record is written when everything was found present after it was touched, so a collection that runs meanwhile keeps
// it (package gc).
//
// A crash leaves the pin that was there before, or the new one, and blocks that the next collection takes.
package pins

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	pin "github.com/ipfs/boxo/pinning/pinner"
	"github.com/ipfs/boxo/provider"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"

	"github.com/ipfs-aws/ipfs-aws/node/touched"
	"github.com/ipfs-aws/ipfs-aws/node/walk"
)

// walkers is how many nodes of a DAG are read or fetched at once: what kubo's own walk has.
const walkers = 32

// named is how many missing blocks an error names at most.
const named = 5

// Options of a Pinner.
type Options struct {
	// DAG fetches; Local does not.
	DAG, Local format.DAGService
	// Has reports whether a block is here.
	Has func(context.Context, cid.Cid) (bool, error)
	// Touch must return before a block is looked for.
	Touch func(context.Context, ...touched.Digest) error
	// Provider, if not nil, is told of every block of a pin.
	Provider provider.MultihashProvider
	// Stall is how long a walk may get no new block. 0: for ever.
	Stall time.Duration
}

// Pinner is a pinner whose pins are fetched first. Safe for concurrent use.
type Pinner struct {
	pin.Pinner
	o     Options
	life  context.Context
	close context.CancelFunc
}

// New puts a Pinner in front of base.
func New(base pin.Pinner, o Options) *Pinner {
	p := &Pinner{Pinner: base, o: o}
	p.life, p.close = context.WithCancel(context.Background())
	return p
}

// Stop ends the walks that are under way, with an error.
func (p *Pinner) Stop() { p.close() }

// Close implements pin.Pinner.
func (p *Pinner) Close() error {
	p.close()
	return p.Pinner.Close()
}

// IncompleteError: a DAG is not whole, and what is missing was not to be had.
type IncompleteError struct {
	Root    cid.Cid
	Missing []cid.Cid     // the first of them
	Stall   time.Duration // for which nothing new came; 0: the network was not asked
	Blocks  int           // that are here
}

func (e *IncompleteError) Error() string {
	first := make([]string, 0, named)
	for _, c := range e.Missing[:min(len(e.Missing), named)] {
		first = append(first, c.String())
	}
	if e.Stall > 0 {
		return fmt.Sprintf("no new block for %s; first missing %s (%d blocks below %s are here): check that a peer that has the content is reachable, and pin again",
			e.Stall, strings.Join(first, ", "), e.Blocks, e.Root)
	}
	return fmt.Sprintf("the DAG of %s is not whole here; first missing %s", e.Root, strings.Join(first, ", "))
}

type localKey struct{}

// WithLocal has pins made with the context take only what is here.
func WithLocal(ctx context.Context) context.Context { return context.WithValue(ctx, localKey{}, true) }

// Pin implements pin.Pinner: node's DAG is here when it returns, and pinned.
func (p *Pinner) Pin(ctx context.Context, node format.Node, recursive bool, name string) error {
	if err := p.o.Touch(ctx, touched.Key(node.Cid().Hash())); err != nil {
		return err
	}
	if err := p.o.DAG.Add(ctx, node); err != nil {
		return err
	}
	if !recursive {
		return p.PinWithMode(ctx, node.Cid(), pin.Direct, name)
	}
	if err := p.Fetch(ctx, node.Cid()); err != nil {
		return err
	}
	return p.PinWithMode(ctx, node.Cid(), pin.Recursive, name)
}

// PinWithMode implements pin.Pinner. It fetches nothing. A pin that is there already stays as it is.
func (p *Pinner) PinWithMode(ctx context.Context, c cid.Cid, mode pin.Mode, name string) error {
	there, err := p.CheckIfPinnedWithType(ctx, mode, true, c)
	if err != nil {
		return err
	}
	for _, t := range there {
		if t.Mode == mode && t.Name == name {
			return nil
		}
	}
	return p.Pinner.PinWithMode(ctx, c, mode, name)
}

// Update implements pin.Pinner.
func (p *Pinner) Update(ctx context.Context, from, to cid.Cid, unpin bool) error {
	there, err := p.CheckIfPinnedWithType(ctx, pin.Recursive, true, from, to)
	if err != nil {
		return err
	}
	name, isFrom, isTo := "", false, false
	for _, t := range there {
		switch {
		case t.Mode != pin.Recursive:
		case t.Key == from:
			name, isFrom = t.Name, true
		case t.Key == to:
			isTo = true
		}
	}
	switch {
	case !isFrom:
		return errors.New("'from' cid was not recursively pinned already")
	case from == to:
		return nil
	case isTo:
		return errors.New("'to' cid was already recursively pinned")
	}
	if err := p.Fetch(ctx, to); err != nil {
		return err
	}
	if err := p.Pinner.PinWithMode(ctx, to, pin.Recursive, name); err != nil {
		return err
	}
	if unpin {
		return p.Unpin(ctx, from, true)
	}
	return nil
}

// Fetch returns when the whole DAG of a root is here, each block touched before it was looked for.
func (p *Pinner) Fetch(ctx context.Context, root cid.Cid) error {
	return p.fetch(ctx, root, true)
}

// FetchOne returns when a block is here, like Fetch.
func (p *Pinner) FetchOne(ctx context.Context, c cid.Cid) error {
	return p.fetch(ctx, c, false)
}

func (p *Pinner) fetch(ctx context.Context, root cid.Cid, deep bool) error {
	parent := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.life, func() { cancel(pin.ErrClosed) })()

	local, _ := parent.Value(localKey{}).(bool)
	f := &fetch{p: p, root: root, deep: deep, waiting: map[cid.Cid]uint64{}, seen: cid.NewSet()}
	f.nodes = merkledag.NewSession(ctx, p.o.DAG)
	if local {
		f.nodes, f.local = p.o.Local, true
	}
	f.progress = parent
	if p.o.Stall > 0 && !local {
		f.timer = time.AfterFunc(p.o.Stall, func() { cancel(f.stalled(p.o.Stall)) })
		defer f.timer.Stop()
	}
	if err := p.o.Touch(ctx, touched.Key(root.Hash())); err != nil {
		return err
	}
	err := walk.All(ctx, walkers, []cid.Cid{root}, f.visit)
	if cause := context.Cause(ctx); cause != nil && parent.Err() == nil {
		return cause
	}
	if err == nil && len(f.missing) > 0 {
		return &IncompleteError{Root: root, Missing: f.missing, Blocks: f.blocks}
	}
	return err
}

// fetch is one walk.
type fetch struct {
	p     *Pinner
	root  cid.Cid
	deep  bool
	local bool
	nodes format.NodeGetter
	// progress may carry a merkledag.ProgressTracker.
	progress context.Context
	timer    *time.Timer

	mu      sync.Mutex
	seen    *cid.Set // nodes with links, or what may have; leaves are looked for as often as they are named
	waiting map[cid.Cid]uint64
	asked   uint64
	missing []cid.Cid
	blocks  int
}

// stalled is the error of a walk that has got nothing for a while. What it has waited for longest comes first.
func (f *fetch) stalled(d time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := &IncompleteError{Root: f.root, Stall: d, Blocks: f.blocks}
	for range min(named, len(f.waiting)) {
		var oldest cid.Cid
		for c, n := range f.waiting {
			if at, ok := f.waiting[oldest]; !ok || n < at {
				oldest = c
			}
		}
		e.Missing = append(e.Missing, oldest)
		delete(f.waiting, oldest)
	}
	return e
}

func (f *fetch) got(c cid.Cid, data []byte) {
	f.mu.Lock()
	f.blocks++
	f.mu.Unlock()
	// merkledag keeps to itself under which key a context carries a tracker: its own walk, over this node alone, counts
	// it. The only error is one of ctx.
	_ = merkledag.FetchGraphWithDepthLimit(f.progress, c, 0, counted{data: data}, merkledag.Concurrency(1))
	if f.timer != nil {
		f.timer.Reset(f.p.o.Stall)
	}
}

func (f *fetch) wait(c cid.Cid) (done func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	f.waiting[c] = f.asked
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.waiting, c)
	}
}

func (f *fetch) visit(ctx context.Context, c cid.Cid) ([]cid.Cid, error) {
	if c.Prefix().Codec == cid.Raw || !f.deep {
		here, err := f.p.o.Has(ctx, c)
		if err != nil {
			return nil, err
		}
		if here {
			f.got(c, nil)
			return nil, f.provide(c)
		}
	}
	done := f.wait(c)
	node, err := f.nodes.Get(ctx, c)
	if err != nil {
		if f.local && format.IsNotFound(err) {
			done()
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.missing) < named {
				f.missing = append(f.missing, c)
			}
			return nil, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err() // done is not called: the error names what was waited for
		}
		return nil, fmt.Errorf("block %s: %w", c, err)
	}
	done()
	f.got(c, node.RawData())
	if err := f.provide(c); err != nil || !f.deep {
		return nil, err
	}
	links := node.Links()
	below := make([]cid.Cid, 0, len(links))
	keys := make([]touched.Digest, 0, len(links))
	f.mu.Lock()
	for _, l := range links {
		if l.Cid.Prefix().Codec == cid.Raw || f.seen.Visit(l.Cid) {
			below = append(below, l.Cid)
			keys = append(keys, touched.Key(l.Cid.Hash()))
		}
	}
	f.mu.Unlock()
	if len(keys) == 0 {
		return nil, nil
	}
	return below, f.p.o.Touch(ctx, keys...)
}

func (f *fetch) provide(c cid.Cid) error {
	if f.p.o.Provider == nil {
		return nil
	}
	// As kubo's walk: a provider that cannot take it does not fail the pin.
	_ = f.p.o.Provider.StartProviding(false, c.Hash())
	return nil
}

// counted is a DAG service with one node, which has no links.
type counted struct {
	format.DAGService
	data []byte
}

func (n counted) Get(context.Context, cid.Cid) (format.Node, error) {
	return countedNode{data: n.data}, nil
}

type countedNode struct {
	format.Node
	data []byte
}

func (n countedNode) RawData() []byte       { return n.data }
func (n countedNode) Links() []*format.Link { return nil }
