package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/boxo/files"
	cmds "github.com/ipfs/go-ipfs-cmds"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/core/coreiface/options"
	"github.com/ipfs/kubo/repo/fsrepo"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/internal/durable"
	"github.com/ipfs-aws/ipfs-aws/node/holders"
	s3plugin "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
)

const takeOverOption = "take-over"

// probeTimeout bounds the look at the bucket before a repo is made: long
// enough for the SDK's retries of a slow bucket, short enough for somebody who
// waits at a prompt.
const probeTimeout = 30 * time.Second

// extendInit adds the choice of the blockstore to `init`. Everything is looked
// at before anything is written: settings, folder, then the bucket.
func extendInit(cmd *cmds.Command) {
	cmd.Options = append(cmd.Options, cmds.BoolOption(takeOverOption, "Take the prefix over from a node that was not stopped in order: that one writes nothing more. The same as "+settings.TakeOver+"=1."))
	cmd.Options = append(cmd.Options, blockstoreOptions("blockstore", "Where blocks are kept: "+strings.Join(settings.Blockstores, ", ")+". Default: $IPFS_BLOCKSTORE, or flatfs.")...)
	cmd.Helptext.ShortDescription += `
--blockstore chooses where blocks are kept: flatfs (files on a local disk,
synced), efs (the same, tuned for a network file system) or s3 (a bucket).
The environment says the same as the flags (IPFS_BLOCKSTORE, IPFS_S3_BUCKET
and so on); a flag wins. A prefix that belongs to another node is refused,
unless that one was stopped in order, or --take-over is given. Credentials for S3 come from the AWS environment,
shared config or task role; they are never written to the repo.

Examples:

  $ ipfs-aws init
  $ ipfs-aws init --blockstore s3 --bucket my-blocks --prefix node-1
  $ IPFS_BLOCKSTORE=s3 IPFS_S3_BUCKET=my-blocks ipfs-aws init
`
	run := cmd.Run
	cmd.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		root, err := repoRoot(req)
		if err != nil {
			return err
		}
		conf, err := initConfig(req, root, settingsOf(req))
		if err != nil {
			return err
		}
		b, err := json.Marshal(conf)
		if err != nil {
			return fmt.Errorf("init: encode the new config: %w", err)
		}
		req.Files = files.NewSliceDirectory([]files.DirEntry{files.FileEntry("default-config", files.NewBytesFile(b))})

		claim, err := claimFolder(root)
		if err != nil {
			return err
		}
		// Before kubo writes blocks: what is in the store by now is someone else's.
		if err := holders.Fresh(root); err != nil {
			return errors.Join(err, claim.undo())
		}
		if err := run(req, res, env); err != nil {
			return errors.Join(err, claim.undo())
		}
		return claim.done()
	}
}

// initConfig is the config of the new repo, checked as far as can be without
// writing anything to the folder.
func initConfig(req *cmds.Request, root string, s *settings.Settings) (*config.Config, error) {
	if fsrepo.IsInitialized(root) && !halfMade(root) {
		return nil, fmt.Errorf("init: there is a repo at %s already, and nothing was changed: choose another folder with IPFS_PATH, or start the present one with `ipfs-aws daemon`", root)
	}
	if err := checkFolder(root); err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	conf, given, err := givenConfig(req)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	if adjust, _ := req.Context.Value(adjustKey{}).(func(*config.Config)); adjust != nil {
		adjust(conf)
	}
	// A config file brings its own datastore, which only an explicit choice
	// overrides.
	if !given || s.Chosen {
		if err := s.Blocks.Use(conf); err != nil {
			return nil, fmt.Errorf("init: %w", err)
		}
	}
	profiles, _ := req.Options["profile"].(string)
	if s.Chosen {
		if err := checkInitProfiles(conf, profiles, s.Blocks.Name); err != nil {
			return nil, fmt.Errorf("init: %w", err)
		}
	}
	if s.Blocks.Name == settings.S3 {
		if err := probeBucket(req.Context, s.Blocks.Spec); err != nil {
			return nil, fmt.Errorf("init: nothing was created: %w", err)
		}
	}
	if !given {
		identity, err := newIdentity(req, os.Stdout)
		if err != nil {
			return nil, fmt.Errorf("init: %w", err)
		}
		conf.Identity = identity
	}
	return conf, nil
}

// probeBucket makes sure that the bucket is there, in the region named, and
// that the credentials at hand may write, read and delete under the prefix.
func probeBucket(ctx context.Context, spec map[string]any) error {
	cfg, err := s3plugin.Parse(spec)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return s3ds.Probe(ctx, cfg)
}

// givenConfig is the config file that init was given, or kubo's defaults
// without an identity.
func givenConfig(req *cmds.Request) (conf *config.Config, given bool, err error) {
	if req.Files != nil {
		it := req.Files.Entries()
		if it.Next() {
			f := files.FileFromEntry(it)
			if f == nil {
				return nil, false, fmt.Errorf("config %s: not a regular file", it.Name())
			}
			conf = new(config.Config)
			if err := json.NewDecoder(f).Decode(conf); err != nil {
				return nil, false, fmt.Errorf("config %s: not a kubo config: %w", it.Name(), err)
			}
			return conf, true, nil
		}
		if it.Err() != nil {
			return nil, false, fmt.Errorf("read the given config: %w", it.Err())
		}
	}
	conf, err = config.InitWithIdentity(config.Identity{})
	return conf, false, err
}

// checkInitProfiles refuses profiles that would put another datastore in the
// place of the chosen one. Unknown profiles are left to kubo's own error.
func checkInitProfiles(conf *config.Config, profiles, blockstore string) error {
	for _, name := range strings.FieldsFunc(profiles, func(r rune) bool { return r == ',' }) {
		p, ok := config.Profiles[name]
		if !ok {
			continue
		}
		after, err := conf.Clone()
		if err != nil {
			return err
		}
		if err := p.Transform(after); err != nil {
			return fmt.Errorf("profile %s: %w", name, err)
		}
		if !sameSpec(conf.Datastore.Spec, after.Datastore.Spec) {
			return fmt.Errorf("--profile %s chooses a datastore (%s) and so does --blockstore %s: leave one of them out", name, describeSpec(after.Datastore.Spec), blockstore)
		}
	}
	return nil
}

func newIdentity(req *cmds.Request, out io.Writer) (config.Identity, error) {
	algorithm, _ := req.Options["algorithm"].(string)
	opts := []options.KeyGenerateOption{options.Key.Type(algorithm)}
	if bits, ok := req.Options["bits"].(int); ok {
		opts = append(opts, options.Key.Size(bits))
	}
	return config.CreateIdentity(out, opts)
}

// checkFolder tells whether the repo folder can be made and written to, and
// leaves no trace.
func checkFolder(root string) error {
	dir := root
	for {
		fi, err := os.Stat(dir)
		if err == nil {
			if !fi.IsDir() {
				return fmt.Errorf("repo folder %s: %s is a file, not a folder: choose another with IPFS_PATH", root, dir)
			}
			break
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, os.ErrNotExist) || parent == dir {
			return fmt.Errorf("repo folder %s: %w: choose another with IPFS_PATH", root, err)
		}
		dir = parent
	}
	probe, err := os.CreateTemp(dir, ".ipfs-aws-init-*")
	if err != nil {
		return fmt.Errorf("repo folder %s is not writable by user %d (%w): chown or remount it, or choose another with IPFS_PATH", root, os.Getuid(), errors.Unwrap(err))
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// beingMade is a file in a folder where a repo is being made.
const beingMade = ".ipfs-aws-init"

// halfMade reports whether making the repo in a folder was broken off by the
// death of the process. Nothing in it was ever used.
func halfMade(root string) bool {
	_, err := os.Stat(filepath.Join(root, beingMade))
	return err == nil
}

// claim is a folder in which a repo is being made.
type claim struct {
	root    string
	existed bool
	before  []string // what was in it
}

// claimFolder makes the repo folder with its parents, and marks it, so that a
// death half-way is no obstacle for the next attempt.
func claimFolder(root string) (*claim, error) {
	entries, err := os.ReadDir(root)
	c := &claim{root: root, existed: err == nil}
	for _, e := range entries {
		c.before = append(c.before, e.Name())
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("init: repo folder %s: %w", root, err)
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("init: make repo folder: %w", err)
	}
	if halfMade(root) {
		// Without these kubo begins anew. What the datastores hold is not in the
		// way, and with S3 it names this node as the owner of the prefix.
		for _, name := range []string{config.DefaultConfigFile, "datastore_spec", "version"} {
			if err := os.Remove(filepath.Join(root, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("init: clear what an earlier attempt has left: %w", err)
			}
		}
		return c, nil
	}
	if err := durable.WriteFile(filepath.Join(root, beingMade), nil, 0o600); err != nil {
		return nil, fmt.Errorf("init: mark the repo folder: %w", err)
	}
	return c, nil
}

// done says that the repo is whole.
func (c *claim) done() error {
	if err := os.Remove(filepath.Join(c.root, beingMade)); err != nil {
		return fmt.Errorf("init: the repo is made, and its mark cannot be removed: %w", err)
	}
	return nil
}

// undo removes what an init has made that failed half-way. What was in the folder
// before is never touched.
func (c *claim) undo() error {
	if !c.existed {
		return os.RemoveAll(c.root)
	}
	now, err := os.ReadDir(c.root)
	if err != nil {
		return err
	}
	for _, e := range now {
		if slices.Contains(c.before, e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(c.root, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
