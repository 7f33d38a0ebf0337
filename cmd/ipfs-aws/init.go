package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/ipfs/boxo/files"
	cmds "github.com/ipfs/go-ipfs-cmds"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/core/coreiface/options"
	"github.com/ipfs/kubo/repo/fsrepo"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
)

// probeTimeout bounds the look at the bucket before a repo is made: long
// enough for the SDK's retries of a slow bucket, short enough for somebody who
// waits at a prompt.
const probeTimeout = 30 * time.Second

// s3Options are the flags that describe a bucket, with the datastore setting
// that each one becomes.
var s3Options = []struct{ flag, setting, help string }{
	{"bucket", "bucket", "S3 bucket that holds the blocks (with --blockstore s3)."},
	{"region", "region", "Region of the bucket; by default the AWS environment's, or us-east-1 with --endpoint."},
	{"endpoint", "regionEndpoint", "URL of an S3-compatible server, for example http://127.0.0.1:7070."},
	{"prefix", "rootDirectory", "Folder inside the bucket; one node per prefix."},
	{"sse", "sse", "Server-side encryption: AES256 or aws:kms."},
	{"sse-kms-key-id", "sseKMSKeyId", "KMS key for --sse aws:kms."},
	{"layout", "layout", "How blocks lie in the bucket: packs (many per object, few requests; default) or objects (one each, as go-ds-s3)."},
	{"storage-class", "storageClass", "Storage class of new objects, for example INTELLIGENT_TIERING."},
}

// extendInit adds the choice of the blockstore to `init`. Everything is looked
// at before anything is written: settings, folder, then the bucket.
func extendInit(cmd *cmds.Command) {
	cmd.Options = append(cmd.Options, cmds.StringOption("blockstore", "Where blocks are kept: "+strings.Join(blockstores, ", ")+". Default: flatfs."))
	for _, o := range s3Options {
		cmd.Options = append(cmd.Options, cmds.StringOption(o.flag, o.help))
	}
	cmd.Helptext.ShortDescription += `
--blockstore chooses where blocks are kept: flatfs (files on a local disk,
synced), efs (the same, tuned for a network file system) or s3 (a bucket).
Credentials for S3 come from the AWS environment, shared config or task role;
they are never written to the repo.

Examples:

  $ ipfs-aws init
  $ ipfs-aws init --blockstore s3 --bucket my-blocks --region eu-west-1 --prefix node-1
`
	run := cmd.Run
	cmd.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		root, err := repoRoot(req)
		if err != nil {
			return err
		}
		conf, err := initConfig(req, root)
		if err != nil {
			return err
		}
		b, err := json.Marshal(conf)
		if err != nil {
			return fmt.Errorf("init: encode the new config: %w", err)
		}
		req.Files = files.NewSliceDirectory([]files.DirEntry{files.FileEntry("default-config", files.NewBytesFile(b))})

		undo, err := claimFolder(root)
		if err != nil {
			return err
		}
		if err := run(req, res, env); err != nil {
			return errors.Join(err, undo())
		}
		return nil
	}
}

// initConfig is the config of the new repo, checked as far as can be without
// writing anything to the folder.
func initConfig(req *cmds.Request, root string) (*config.Config, error) {
	name, chosen := req.Options["blockstore"].(string)
	if !chosen {
		name = flatfsBlockstore
	}
	if err := checkBlockstore(name); err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	spec, err := blocksSpec(req, name)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	if fsrepo.IsInitialized(root) {
		return nil, fmt.Errorf("init: there is a repo at %s already, and nothing was changed: choose another folder with IPFS_PATH, or start the present one with `ipfs-aws daemon`", root)
	}
	if err := checkFolder(root); err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	conf, given, err := givenConfig(req)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	// A config file brings its own datastore, which only an explicit choice
	// overrides.
	if !given || chosen {
		useBlockstore(conf, name, spec)
	}
	profiles, _ := req.Options["profile"].(string)
	if chosen {
		if err := checkInitProfiles(conf, profiles, name); err != nil {
			return nil, fmt.Errorf("init: %w", err)
		}
	}
	if name == s3Blockstore {
		if err := probeBucket(req.Context, spec); err != nil {
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

// blocksSpec is the datastore spec of the chosen blockstore.
func blocksSpec(req *cmds.Request, name string) (map[string]any, error) {
	var s3 []string
	spec := map[string]any{"type": s3ds.Type}
	for _, o := range s3Options {
		if v, _ := req.Options[o.flag].(string); v != "" {
			spec[o.setting] = v
			s3 = append(s3, "--"+o.flag)
		}
	}
	if name != s3Blockstore {
		if len(s3) > 0 {
			return nil, fmt.Errorf("%s: only for --blockstore s3, and --blockstore is %s", strings.Join(s3, ", "), name)
		}
		return fileSpec(name), nil
	}
	switch spec["layout"] {
	case nil:
		spec["layout"] = s3ds.LayoutPacks
	case s3ds.LayoutPacks, s3ds.LayoutObjects:
	default:
		return nil, fmt.Errorf("--layout %q is not known: use %s or %s", spec["layout"], s3ds.LayoutPacks, s3ds.LayoutObjects)
	}
	if spec["bucket"] == nil {
		return nil, errors.New("--blockstore s3 needs --bucket, the S3 bucket that is to hold the blocks")
	}
	if spec["region"] == nil {
		region, err := defaultRegion(req.Context, spec["regionEndpoint"] != nil)
		if err != nil {
			return nil, fmt.Errorf("--region: %w", err)
		}
		spec["region"] = region
	}
	return spec, nil
}

// defaultRegion is the region that the AWS environment and shared config name.
// S3-compatible servers seldom care, and the ones that do are set up as
// us-east-1 by default.
func defaultRegion(ctx context.Context, ownEndpoint bool) (string, error) {
	cfg, err := awsconfig.LoadDefaultConfig(ctx)
	switch {
	case err != nil:
		return "", fmt.Errorf("read the AWS environment: %w", err)
	case cfg.Region != "":
		return cfg.Region, nil
	case ownEndpoint:
		return "us-east-1", nil
	}
	return "", errors.New("not given, and the AWS environment names none: give the region of the bucket, for example --region eu-west-1, or set AWS_REGION")
}

// probeBucket makes sure that the bucket is there, in the region named, and
// that the credentials at hand may write, read and delete under the prefix.
func probeBucket(ctx context.Context, spec map[string]any) error {
	cfg, err := s3ds.ParseConfig(spec)
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

// claimFolder makes the repo folder with its parents, and returns what undoes
// an init that failed half-way: a folder that was not there, or was empty, is
// left so again. What was in a folder before is never touched.
func claimFolder(root string) (undo func() error, err error) {
	entries, err := os.ReadDir(root)
	existed := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("init: repo folder %s: %w", root, err)
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("init: make repo folder: %w", err)
	}
	return func() error {
		switch {
		case !existed:
			return os.RemoveAll(root)
		case len(entries) == 0:
			made, err := os.ReadDir(root)
			if err != nil {
				return err
			}
			for _, e := range made {
				if err := os.RemoveAll(filepath.Join(root, e.Name())); err != nil {
					return err
				}
			}
		}
		return nil
	}, nil
}
