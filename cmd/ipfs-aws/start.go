package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	lockfile "github.com/ipfs/go-fs-lock"
	cmds "github.com/ipfs/go-ipfs-cmds"
	"github.com/ipfs/kubo/repo/fsrepo"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
	s3plugin "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
)

// blockstoreOptions are the flags that say where blocks are kept: the one that
// names the blockstore, and those of each blockstore.
func blockstoreOptions(chooser, help string) []cmds.Option {
	options := []cmds.Option{cmds.StringOption(chooser, help)}
	for _, f := range settings.Flags() {
		options = append(options, cmds.StringOption(f.Name, f.Help))
	}
	return options
}

// blockstoreFlags are the flags of a request that blockstoreOptions has added.
func blockstoreFlags(req *cmds.Request, chooser string) map[string]string {
	flags := map[string]string{}
	for _, name := range append([]string{chooser}, flagNames()...) {
		if v, _ := req.Options[name].(string); v != "" {
			flags[name] = v
		}
	}
	return flags
}

func flagNames() []string {
	var names []string
	for _, f := range settings.Flags() {
		names = append(names, f.Name)
	}
	return names
}

// loadSettings reads the settings for a command that starts or makes a repo, and
// keeps them for it: see settingsOf. Every other command takes the repo as it is.
func loadSettings(req *cmds.Request, root string) error {
	command := strings.Join(req.Path, " ")
	if !slices.Contains([]string{"init", "daemon", "container"}, command) {
		keys, takeOver, err := settings.LoadKeys(os.Environ())
		if err != nil {
			return err
		}
		s3plugin.UseKeys(keys)
		s3plugin.UseTakeOver(takeOver)
		return nil
	}
	in := settings.Input{Environ: os.Environ()}
	fresh := !fsrepo.IsInitialized(root) || halfMade(root)
	if !fresh {
		in.Repo = root
	}
	switch {
	case command == "init":
		in.Flags, in.Default, in.Repo = blockstoreFlags(req, "blockstore"), settings.Flatfs, ""
	case fresh && command == "container":
		in.Default = settings.EFS
	case fresh:
		in.Default = settings.Flatfs
	}
	s, err := settings.Load(req.Context, in)
	if command == "container" {
		err = errors.Join(err, usable(root))
	}
	if err != nil {
		return refused(command, err)
	}
	s3plugin.UseKeys(s.Keys)
	flag, _ := req.Options[takeOverOption].(bool) // of init
	s3plugin.UseTakeOver(s.TakeOver || flag)
	keepSettings(req, s)
	if command == "init" {
		return nil
	}
	return settings.TakeSecrets()
}

type settingsKey struct{}

func keepSettings(req *cmds.Request, s *settings.Settings) {
	req.Context = context.WithValue(req.Context, settingsKey{}, s)
}

// settingsOf returns the settings of the process, as loadSettings has read them.
func settingsOf(req *cmds.Request) *settings.Settings {
	s, _ := req.Context.Value(settingsKey{}).(*settings.Settings)
	if s == nil {
		return &settings.Settings{}
	}
	return s
}

// refused is the error of a command that has changed nothing because of its
// settings: one line, or a line for each problem.
func refused(command string, err error) error {
	lines := strings.Split(err.Error(), "\n")
	if len(lines) == 1 {
		return fmt.Errorf("%s: %w", command, err)
	}
	return fmt.Errorf("%s: %d things are wrong, and nothing was changed:\n%w", command, len(lines), err)
}

// say writes a line to the start-up log.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// applySettings makes the config of a repo say what the settings do, and tells
// of each change. more may add to the plan. It reports whether anything was
// changed that has been read already: see restart.
func applySettings(ctx context.Context, root string, s *settings.Settings, more func(*settings.Plan)) (again bool, err error) {
	plan := func() (*settings.Plan, error) {
		p, err := s.Plan(root)
		if err == nil && more != nil {
			more(p)
		}
		return p, err
	}
	p, err := plan()
	if err != nil {
		return false, err
	}
	for _, note := range p.Notes {
		say("settings: %s", note)
	}
	if len(p.Changes) == 0 {
		return false, nil
	}
	lock, err := lockRepo(ctx, root)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if p, err = plan(); err != nil { // the one who had the lock may have changed it
		return false, err
	}
	if len(p.Changes) == 0 {
		return false, nil
	}
	if err := p.Write(root); err != nil {
		return false, err
	}
	for _, c := range p.Changes {
		say("settings: %s", c)
		again = again || strings.HasPrefix(c.Key, "Plugins.")
	}
	return again, nil
}

// lockRepo takes the lock of a repo as kubo does when it opens one. The kernel
// gives it back when this process ends, so a lock file that is left behind is
// none.
func lockRepo(ctx context.Context, root string) (io.Closer, error) {
	lock, err := lockfile.Lock(root, fsrepo.LockFile)
	if err == nil {
		return lock, nil
	}
	wait := os.Getenv("IPFS_WAIT_REPO_LOCK")
	d, derr := time.ParseDuration(wait)
	if wait == "" || derr != nil {
		return nil, fmt.Errorf("another process uses the repo at %s: stop it, or wait for its end with IPFS_WAIT_REPO_LOCK=60s (%w)", root, err)
	}
	say("waiting for another process to leave the repo at %s (IPFS_WAIT_REPO_LOCK=%s)", root, wait)
	if d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if lock, err = lockfile.WaitLock(ctx, root, fsrepo.LockFile); err != nil {
		return nil, fmt.Errorf("another process uses the repo at %s, and has not left it within IPFS_WAIT_REPO_LOCK=%s: %w", root, wait, err)
	}
	return lock, nil
}

// explainMismatch puts words in the place of kubo's two JSON strings, for every
// command that opens a repo.
//
// upstream: mismatch-text
func explainMismatch(cmd *cmds.Command, seen map[*cmds.Command]bool) {
	if cmd == nil || seen[cmd] {
		return
	}
	seen[cmd] = true
	for _, sub := range cmd.Subcommands {
		explainMismatch(sub, seen)
	}
	if cmd.Run == nil {
		return
	}
	run := cmd.Run
	cmd.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		err := run(req, res, env)
		if err == nil || !strings.Contains(err.Error(), "does not match the repo's datastore_spec file") {
			return err
		}
		root, rerr := repoRoot(req)
		if rerr != nil {
			return err
		}
		if words := settings.Mismatch(root); words != nil {
			return words
		}
		return err
	}
}
