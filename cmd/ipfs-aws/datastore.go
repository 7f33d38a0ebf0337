package main

import (
	"errors"
	"fmt"
	"path/filepath"

	cmds "github.com/ipfs/go-ipfs-cmds"
	oldcmds "github.com/ipfs/kubo/commands"
	"github.com/ipfs/kubo/config"
	serialize "github.com/ipfs/kubo/config/serialize"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/repo/fsrepo"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	s3plugin "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
)

const jsonOption = "json"

var datastoreCmd = &cmds.Command{
	Helptext: cmds.HelpText{
		Tagline: "Look after the store of the blocks, or move to another one.",
		ShortDescription: `
  $ ipfs-aws datastore migrate           to another store; backup and restore

stat and migrate are for every blockstore; the others are for repos whose
blocks are in a bucket (ipfs-aws init --blockstore s3).

  $ ipfs-aws datastore stat              what is where, and what it costs
  $ ipfs-aws datastore verify            read and hash every block
  $ ipfs-aws datastore repack            loose objects into packs
  $ ipfs-aws datastore reindex           the local index anew from the bucket

With a daemon running, stat, verify and repack work inside it; reindex wants
it stopped. Each but stat can be broken off with Ctrl-C and called again.
`,
	},
	Subcommands: map[string]*cmds.Command{
		"migrate": datastoreMigrateCmd,
		"stat":    datastoreStatCmd,
		"verify":  datastoreVerifyCmd,
		"repack":  datastoreRepackCmd,
		"reindex": datastoreReindexCmd,
	},
}

func jsonFlag() cmds.Option { return cmds.BoolOption(jsonOption, "Same as --enc=json.") }

// jsonAsEncoding turns the flag --json of a command into its encoding, before
// the command line chooses who prints the answer.
func jsonAsEncoding(req *cmds.Request) {
	if on, _ := req.Options[jsonOption].(bool); on && len(req.Path) > 0 && req.Path[0] == "datastore" {
		req.SetOption(cmds.EncLong, string(cmds.JSON))
	}
}

// hasRepo returns an error if there is no repo in a folder.
func hasRepo(root string) error {
	if !fsrepo.IsInitialized(root) {
		return fmt.Errorf("there is no repo at %s: name another with IPFS_PATH, or make one with `ipfs-aws init`", root)
	}
	return nil
}

// s3Settings returns the settings of the store that holds the blocks of the
// repo in root, or an error if they are not in S3.
func s3Settings(root string) (s3ds.Config, error) {
	if err := hasRepo(root); err != nil {
		return s3ds.Config{}, err
	}
	path := filepath.Join(root, config.DefaultConfigFile)
	var conf config.Config
	if err := serialize.ReadConfigFile(path, &conf); err != nil {
		return s3ds.Config{}, fmt.Errorf("read %s: %w", path, err)
	}
	store := settings.BlocksStore(conf.Datastore.Spec)
	for _, child := range []string{"hot", "cold"} { // of a tiered one, whichever is in S3
		if one, ok := store[child].(map[string]any); ok && isS3(one) {
			store = innermost(one)
			break
		}
	}
	if store["type"] != s3ds.Type {
		return s3ds.Config{}, fmt.Errorf("the blocks of the repo at %s are not in S3 but in %s: there is nothing to do here", root, describeSpec(conf.Datastore.Spec))
	}
	c, err := s3plugin.Parse(store)
	if err != nil {
		return s3ds.Config{}, fmt.Errorf("config Datastore.Spec: %w", err)
	}
	return c, nil
}

// s3Store returns the open store of the node that the command runs in: the
// daemon's, or one that is opened for this command.
func s3Store(env cmds.Environment) (s3ds.Store, s3ds.Config, *core.IpfsNode, error) {
	none := s3ds.Config{}
	ctx, ok := env.(*oldcmds.Context)
	if !ok {
		return nil, none, nil, fmt.Errorf("the environment of the command is a %T", env)
	}
	c, err := s3Settings(ctx.ConfigRoot)
	if err != nil {
		return nil, none, nil, err
	}
	n, err := ctx.GetNode()
	if err != nil {
		return nil, none, nil, err
	}
	store, ok := s3plugin.Opened(n.Repo.Path(), c)
	if !ok {
		return nil, none, nil, notOpen(n.Repo.Path())
	}
	return store, c, n, nil
}

// packedStore is s3Store for commands that make no sense without an index;
// otherwise is what is said there.
func packedStore(env cmds.Environment, otherwise string) (*s3ds.Packed, *core.IpfsNode, error) {
	store, _, n, err := s3Store(env)
	if err != nil {
		return nil, nil, err
	}
	p, ok := store.(*s3ds.Packed)
	if !ok {
		return nil, nil, errors.New("the repo has layout \"objects\", and no packs: " + otherwise)
	}
	return p, n, nil
}
