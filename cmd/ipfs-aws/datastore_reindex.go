package main

import (
	"fmt"

	cmds "github.com/ipfs/go-ipfs-cmds"
	"github.com/ipfs/kubo/core/commands"
	"github.com/ipfs/kubo/repo/fsrepo"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
)

var datastoreReindexCmd = &cmds.Command{
	Helptext: cmds.HelpText{
		Tagline: "Make the local index anew from the bucket and the journal.",
		ShortDescription: `
Nobody needs it in daily life: an index that is missing or damaged is made
anew when the node starts. It costs one LIST per 1,000 objects and one GET per
pack. The daemon must be stopped. Broken off, it goes on when it is called
again, or when the daemon starts. Blocks that were deleted, and whose packs
compaction has not removed yet, are there again afterwards: ` + "`ipfs-aws repo gc`" + `
removes them.

  $ ipfs-aws datastore reindex
`,
	},
	Options:  []cmds.Option{jsonFlag()},
	NoRemote: true,
	Extra:    commands.CreateCmdExtras(commands.SetDoesNotUseRepo(true)),
	Run: func(req *cmds.Request, res cmds.ResponseEmitter, _ cmds.Environment) error {
		root, err := repoRoot(req)
		if err != nil {
			return err
		}
		c, err := s3Settings(root)
		if err != nil {
			return fmt.Errorf("datastore reindex: %w", err)
		}
		if locked, err := fsrepo.LockedByOtherProcess(root); err != nil {
			return fmt.Errorf("datastore reindex: look at the lock of the repo: %w", err)
		} else if locked {
			return fmt.Errorf("datastore reindex: a daemon or another command uses the repo at %s: stop it first, nothing was changed", root)
		}
		r := &reporter{res: res}
		if err := s3ds.Reindex(req.Context, c, root, r.progress); err != nil {
			return fmt.Errorf("datastore %w", interruptedAs(req, "reindex", err))
		}
		return r.result(fmt.Sprintf("the index is complete: %d packs, %d loose objects, %d blocks", r.p.Packs, r.p.Objects, r.p.Blocks), 0)
	},
	Type:     datastoreEvent{},
	Encoders: eventEncoders,
	PostRun:  cmds.PostRunMap{cmds.CLI: showProgress},
}
