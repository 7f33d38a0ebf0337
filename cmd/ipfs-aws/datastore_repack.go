package main

import (
	"context"
	"fmt"
	"iter"
	"sync"

	pin "github.com/ipfs/boxo/pinning/pinner"
	"github.com/ipfs/go-cid"
	cmds "github.com/ipfs/go-ipfs-cmds"
	"github.com/ipfs/kubo/core"
)

// repacking keeps a second one from waiting in silence for the first.
var repacking sync.Mutex

var datastoreRepackCmd = &cmds.Command{
	Helptext: cmds.HelpText{
		Tagline: "Bring loose objects into packs, and merge packs that are tiny or mostly dead.",
		ShortDescription: `
Blocks go into packs in the order in which their DAGs are read: first what is
pinned or in MFS, then what else is there, from its roots down. For a bucket
that go-ds-s3 wrote: one GET per loose object, one PUT per pack, one DELETE
per 1,000 objects. (Blocks under 256 KiB that nothing keeps are read twice
beyond the first 40 MiB.) Reads and writes go on meanwhile. Broken off, it
goes on when it is called again. Blocks that are damaged stay where they are.

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
		if err := p.Repack(req.Context, rootsOf(req.Context, n), r.progress); err != nil {
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

// rootsOf yields what a node wants to keep: what is pinned, and the root of
// MFS. What cannot be listed is passed over: this is an order, not a check.
func rootsOf(ctx context.Context, n *core.IpfsNode) iter.Seq[cid.Cid] {
	return func(yield func(cid.Cid) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends the lists, too
		for _, pins := range []func(context.Context, bool) <-chan pin.StreamedPin{n.Pinning.RecursiveKeys, n.Pinning.DirectKeys} {
			for p := range pins(ctx, false) {
				if p.Err != nil {
					break
				}
				if !yield(p.Pin.Key) {
					return
				}
			}
		}
		if n.FilesRoot == nil {
			return
		}
		if root, err := n.FilesRoot.GetDirectory().GetNode(); err == nil {
			yield(root.Cid())
		}
	}
}
