package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	cmds "github.com/ipfs/go-ipfs-cmds"
	kubo "github.com/ipfs/kubo"
	kubocmd "github.com/ipfs/kubo/cmd/ipfs/kubo"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/ipfs/kubo/repo/fsrepo/migrations"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
	"github.com/ipfs-aws/ipfs-aws/internal/version"
	"github.com/ipfs-aws/ipfs-aws/plugin/gc"
)

// agentSuffix names the distribution to other peers: without it kubo derives a
// suffix from the Go module path.
func agentSuffix() string { return "ipfs-aws/" + version.Version }

// extendDaemon lets the daemon apply the settings before it opens the repo, and
// gives it the distribution's agent version, unless --agent-version-suffix or
// Version.AgentSuffix names another.
func extendDaemon(daemon *cmds.Command) {
	const suffixOption = "agent-version-suffix"
	daemon.Helptext.LongDescription += `
Settings

IPFS_BLOCKSTORE and the settings of that blockstore (IPFS_S3_BUCKET and so on),
and IPFS_CONFIG_ variables, are applied to the repo's config before it is opened;
each change is told. What would need blocks to be moved is refused with the
command that moves them. docs/settings.md lists all settings.

  $ IPFS_BLOCKSTORE=s3 IPFS_S3_BUCKET=my-blocks IPFS_S3_CACHE_SIZE=16GiB ipfs-aws daemon
`
	run := daemon.Run
	daemon.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		if s, _ := req.Options[suffixOption].(string); s == "" {
			req.Options[suffixOption] = agentSuffix()
		}
		// kubo's own collection takes what is being added.
		if on, _ := req.Options["enable-gc"].(bool); on || os.Getenv(settings.GC) == "on" {
			gc.Enable()
		}
		delete(req.Options, "enable-gc")
		fmt.Println(versionLine(versionInfo()))
		if root, err := repoRoot(req); err == nil {
			openHealth(root)
		}
		if err := prepareDaemon(req, res, env); err != nil {
			return err
		}
		defer context.AfterFunc(req.Context, gc.Ending)()
		writeMetrics(req.Context)
		return run(req, res, env)
	}
}

// prepareDaemon makes the repo if --init says so, and applies the settings.
func prepareDaemon(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
	root, err := repoRoot(req)
	if err != nil {
		return err
	}
	s := settingsOf(req)
	tell(s)
	init, _ := req.Options["init"].(bool)
	_, own := req.Options["init-config"].(string)
	if init && !own && (!fsrepo.IsInitialized(root) || halfMade(root)) {
		profiles, _ := req.Options["init-profile"].(string)
		if err := makeRepo(req, res, env, profiles, nil); err != nil {
			return err
		}
	}
	if !fsrepo.IsInitialized(root) {
		return nil // kubo says what to do
	}
	if halfMade(root) {
		return fmt.Errorf("daemon: making the repo at %s was broken off: make it anew with `ipfs-aws init`, or start with `ipfs-aws daemon --init`", root)
	}
	migrate, decided := req.Options["migrate"].(bool)
	if v, err := migrations.RepoVersion(root); err == nil && v < kubo.RepoVersion {
		switch {
		case migrate:
			if err := migrateRepo(req.Context, root, v); err != nil {
				return err
			}
		case s.Blocks == nil && len(s.Overrides) == 0, decided:
			return nil // kubo asks, or refuses
		default:
			return fmt.Errorf("daemon: the repo at %s has version %d and must be migrated to %d before settings are applied: start with --migrate=true", root, v, kubo.RepoVersion)
		}
	}
	again, err := applySettings(req.Context, root, s, nil)
	if err != nil {
		return fmt.Errorf("daemon: %w", err)
	}
	if again {
		return restart()
	}
	return nil
}

// tell writes what is to be said about settings whatever the repo is.
func tell(s *settings.Settings) {
	for _, w := range s.Warnings {
		say("settings: %s", w)
	}
	if s.Keys.AccessKey != "" {
		say("credentials for S3: static, access key %s (IPFS_S3_ACCESS_KEY)", s.Keys.AccessKey)
	}
}

// makeRepo runs `init` for a repo that is not there, with the settings of this
// process, and with what adjust does to kubo's default config.
//
// upstream: init-inside
func makeRepo(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment, profiles string, adjust func(*config.Config)) error {
	options := cmds.OptMap{"algorithm": "ed25519", "empty-repo": true}
	for name, v := range req.Options {
		if name == "repo-dir" || name == "config" {
			options[name] = v
		}
	}
	if profiles != "" {
		options["profile"] = profiles
	}
	sub, err := cmds.NewRequest(context.WithValue(req.Context, adjustKey{}, adjust), []string{"init"}, options, nil, nil, kubocmd.Root)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	return sub.Command.Run(sub, res, env)
}

// adjustKey is of the function that adjusts the default config of an init.
type adjustKey struct{}

// restart begins this process anew, in its place: kubo's plugins read their part
// of the config before any command runs, and it has changed since.
//
// upstream: plugins-read-first
func restart() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, to start it with the new settings of plugins: %w", err)
	}
	say("settings: plugins read theirs when the process begins: beginning anew")
	if err := syscall.Exec(self, start.args, start.env); err != nil {
		return fmt.Errorf("start %s with the new settings of plugins: %w", self, err)
	}
	return nil
}
