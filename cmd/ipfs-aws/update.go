package main

import (
	"errors"

	cmds "github.com/ipfs/go-ipfs-cmds"
)

// errUpdate is what `update` answers: upstream's command would replace this
// binary by a stock kubo, which cannot open an s3 repo.
var errUpdate = errors.New("update: this is ipfs-aws, and kubo's self-update would replace it by a stock kubo without its blockstores: install a newer ipfs-aws release or image instead")

// replaceUpdate keeps the command's name and explains there what to do instead.
// `update clean` works as it does upstream: it removes what a stock kubo left in
// the repo, and replaces nothing.
func replaceUpdate(cmd *cmds.Command) {
	cmd.Helptext = cmds.HelpText{
		Tagline: "Not available: install a newer ipfs-aws release instead.",
		ShortDescription: `
kubo's self-update would replace ipfs-aws by a stock kubo, which knows none of
its blockstores. See which release runs here:

  $ ipfs-aws version --all
`,
	}
	cmd.Run = refuseUpdate
	for name, sub := range cmd.Subcommands {
		if name == "clean" {
			continue
		}
		sub.PreRun, sub.Run = nil, refuseUpdate
	}
}

func refuseUpdate(*cmds.Request, cmds.ResponseEmitter, cmds.Environment) error { return errUpdate }
