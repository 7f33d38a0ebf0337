// Command ipfs-aws is kubo with the blockstores and plugins of this
// distribution: every kubo command works as it does upstream, and the few that
// behave differently (init, version, config, update) say so in their --help.
// New are container, datastore and health.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	cmds "github.com/ipfs/go-ipfs-cmds"
	"github.com/ipfs/kubo/cmd/ipfs/kubo"
	oldcmds "github.com/ipfs/kubo/commands"
	"github.com/ipfs/kubo/core/commands"
	"github.com/ipfs/kubo/repo/fsrepo"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs"
	"github.com/ipfs-aws/ipfs-aws/plugin/adds"
	"github.com/ipfs-aws/ipfs-aws/plugin/gc"
	"github.com/ipfs-aws/ipfs-aws/plugin/swap"

	// An image has nothing but this program.

	_ "github.com/ipfs-aws/ipfs-aws/internal/container"

	// What kubo loads beside its own plugins.

	_ "github.com/ipfs-aws/ipfs-aws/plugin/blocks"
	_ "github.com/ipfs-aws/ipfs-aws/plugin/health"
	_ "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
	_ "github.com/ipfs-aws/ipfs-aws/plugin/tiered"
)

// start is how the process was started: arguments and environment, before
// anything has taken secrets out or named the program otherwise.
var start = struct{ args, env []string }{slices.Clone(os.Args), os.Environ()}

func main() {
	extendCommands()
	os.Exit(kubo.Start(buildEnv))
}

// extendCommands changes kubo's command tree in place. Both the command line
// and the RPC server hold pointers into it, so a change made here holds for
// both.
//
// upstream: commands
func extendCommands() {
	extendInit(kubo.Root.Subcommands["init"])
	extendDaemon(kubo.Root.Subcommands["daemon"])
	extendVersion(commands.VersionCmd)
	extendConfig(commands.ConfigCmd)
	adds.Extend(commands.AddCmd)
	gc.Extend(commands.Root)
	verifyDisk(commands.RepoCmd.Subcommands["verify"])
	replaceUpdate(commands.UpdateCmd)
	// The command line's tree and the RPC server's are two roots.
	kubo.Root.Subcommands["datastore"] = datastoreCmd
	commands.Root.Subcommands["datastore"] = datastoreCmd
	kubo.Root.Subcommands["container"] = containerCmd(kubo.Root.Subcommands["daemon"])
	kubo.Root.Subcommands["health"] = healthCmd
	kubo.Root.Helptext.Subcommands = newCommands + kubo.Root.Helptext.Subcommands
	explainMismatch(kubo.Root, map[*cmds.Command]bool{})
}

// verifyDisk has `repo verify` read what is on disk, and not what a daemon remembers.
func verifyDisk(c *cmds.Command) {
	run := c.Run
	c.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		req.Context = efs.FromDisk(req.Context)
		return run(req, res, env)
	}
}

// newCommands stand before kubo's in the help of the program.
const newCommands = `
IPFS-AWS COMMANDS
  container     Run the node as the settings in the environment say
  datastore     See, check, repack and move the blocks
  health        Ask the node whether it is ready, or alive
`

// buildEnv is kubo's own, after the settings have been applied to the repo.
func buildEnv(ctx context.Context, req *cmds.Request) (cmds.Environment, error) {
	root, err := repoRoot(req)
	if err != nil {
		return nil, err
	}
	if fi, err := os.Stat(root); err == nil && !fi.IsDir() {
		return nil, fmt.Errorf("repo folder %s is a file, not a folder: choose another with IPFS_PATH or --repo-dir", root)
	}
	if req.Command == healthCmd {
		return &oldcmds.Context{ConfigRoot: root}, nil // asks a listener, and needs neither repo nor plugins
	}
	if err := swap.Recover(root); err != nil {
		return nil, err
	}
	if err := loadSettings(req, root); err != nil {
		return nil, err
	}
	defaultHealthListener(req, root)
	jsonAsEncoding(req)
	return kubo.BuildDefaultEnv(ctx, req)
}

// repoRoot is the repo folder that the request is about, whether it exists or
// not.
func repoRoot(req *cmds.Request) (string, error) {
	if dir, _ := req.Options[commands.RepoDirOption].(string); dir != "" {
		return dir, nil
	}
	return fsrepo.BestKnownPath()
}
