package main

import (
	"context"
	"fmt"
	"iter"
	"sync"

	bserv "github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	cmds "github.com/ipfs/go-ipfs-cmds"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/ipfs/kubo/core"
	mh "github.com/multiformats/go-multihash"
)

// repacking keeps a second one from waiting in silence for the first.
var repacking sync.Mutex

var datastoreRepackCmd = &cmds.Command{
	Helptext: cmds.HelpText{
		Tagline: "Bring loose objects into packs, and merge packs that are tiny or mostly dead.",
		ShortDescription: `
Pinned DAGs come first, each in the order in which it is read, then the rest.
For a bucket that go-ds-s3 wrote: one GET per loose object (two for those with
links), one PUT per pack, one DELETE per 1,000 objects. Reads and writes go on
meanwhile. Broken off, it goes on when it is called again. Blocks that are
damaged stay where they are.

  $ ipfs-aws datastore repack
`,
	},
	Options: []cmds.Option{jsonFlag()},
	Run: func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		p, n, err := packedStore(env, "set \"layout\": \"packs\" first, see docs/s3ds.md")
		if err != nil {
			return fmt.Errorf("datastore repack: %w", err)
		}
		if !repacking.TryLock() {
			return fmt.Errorf("datastore repack: one is at work already")
		}
		defer repacking.Unlock()
		r := &reporter{res: res}
		if err := p.Repack(req.Context, pinnedOrder(req.Context, n), r.progress); err != nil {
			return fmt.Errorf("datastore %w", interruptedAs(req, "repack", err))
		}
		s, err := p.Stat(req.Context)
		if err != nil {
			return fmt.Errorf("datastore repack: %w", err)
		}
		return r.result(fmt.Sprintf("%d packs hold %d blocks; %d loose objects are left", s.Index.Packs, s.Index.LiveBlocks, s.Index.LooseBlocks), 0)
	},
	Type:     datastoreEvent{},
	Encoders: eventEncoders,
	PostRun:  cmds.PostRunMap{cmds.CLI: showProgress},
}

// pinnedOrder yields the blocks of everything that is pinned recursively, each
// DAG in the order in which it is read: a block before those it links to, and
// these from left to right. What cannot be read is passed over, with what is
// below it: this is an order, not a check. It remembers the blocks with links,
// one in a hundred or fewer, so that shared parts are walked once.
func pinnedOrder(ctx context.Context, n *core.IpfsNode) iter.Seq[mh.Multihash] {
	dag := merkledag.NewDAGService(bserv.New(n.Blockstore, offline.Exchange(n.Blockstore)))
	return func(yield func(mh.Multihash) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends the list of pins, too
		seen := cid.NewSet()
		for pin := range n.Pinning.RecursiveKeys(ctx, false) {
			if pin.Err != nil || !walk(ctx, dag, pin.Pin.Key, seen, yield) {
				return
			}
		}
	}
}

// walk reports whether to go on.
func walk(ctx context.Context, dag ipld.NodeGetter, root cid.Cid, seen *cid.Set, yield func(mh.Multihash) bool) bool {
	todo := []cid.Cid{root}
	for len(todo) > 0 {
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen.Has(c) {
			continue
		}
		if ctx.Err() != nil || !yield(c.Hash()) {
			return false
		}
		if c.Prefix().Codec == cid.Raw {
			continue
		}
		node, err := dag.Get(ctx, c)
		if err != nil {
			continue
		}
		links := node.Links()
		if len(links) > 0 {
			seen.Add(c)
		}
		for i := range links {
			todo = append(todo, links[len(links)-1-i].Cid)
		}
	}
	return true
}
