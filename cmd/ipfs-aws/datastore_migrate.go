package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	humanize "github.com/dustin/go-humanize"
	cmds "github.com/ipfs/go-ipfs-cmds"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
)

// Flags of `datastore migrate` beside those of a bucket.
const (
	toOption          = "to"
	fromOption        = "from"
	pathOption        = "path"
	onlineOption      = "online"
	mergeOption       = "merge"
	skipDamagedOption = "skip-damaged"
	deleteOption      = "delete-source"
	abandonOption     = "abandon"
	dryRunOption      = "dry-run"
	bandwidthOption   = "bandwidth"
	requestsOption    = "max-requests"
)

// carsTarget is the target of a backup, beside the blockstores.
const carsTarget = "cars"

var targets = []string{settings.Flatfs, settings.EFS, settings.S3, carsTarget}

var datastoreMigrateCmd = &cmds.Command{
	Helptext: cmds.HelpText{
		Tagline: "Copy all blocks to another store, and have the repo use that one; or make a backup, or restore one.",
		ShortDescription: `
Copies every block, hashing each, in the order in which pinned DAGs are read,
and switches the repo to the new store when the new one has all of them. Until
then the repo uses the old one, which is kept until --delete-source is given.

  $ ipfs-aws datastore migrate --to s3 --bucket my-blocks --dry-run
  $ ipfs-aws datastore migrate --to s3 --bucket my-blocks --prefix node-1
  $ ipfs-aws datastore migrate --to efs --path /mnt/efs/blocks
  $ ipfs-aws datastore migrate --delete-source

It may be interrupted at any moment, also by kill -9: the same command goes
on. With a daemon running, stop it or add --online: then reads are served from
both stores, and the daemon changes over without a restart.

A backup is a folder of CAR files, and the pins beside them. The same command
brings a backup up to date:

  $ ipfs-aws datastore migrate --to cars --path /backup
  $ ipfs-aws datastore migrate --from /backup      into the repo's store
`,
	},
	Options: func() []cmds.Option {
		options := []cmds.Option{
			cmds.StringOption(fromOption, "Folder of CAR files to restore into the repo's store."),
			cmds.BoolOption(onlineOption, "Copy beside the running daemon."),
			cmds.BoolOption(mergeOption, "Allow a target that holds other blocks; they stay there."),
			cmds.BoolOption(skipDamagedOption, "Leave damaged blocks out, and switch all the same."),
			cmds.BoolOption(deleteOption, "Remove the old store when the repo does not use it any more."),
			cmds.BoolOption(abandonOption, "Forget a migration that has not switched yet. What was copied stays in the target."),
			cmds.BoolOption(dryRunOption, "Only say what it would take: requests, dollars, hours."),
			cmds.StringOption(bandwidthOption, "Bytes per second, at most, for example 50MB."),
			cmds.FloatOption(requestsOption, "Requests to S3 per second, at most."),
			jsonFlag(),
		}
		return append(blockstoreOptions(toOption, "Where to: "+strings.Join(targets, ", ")+"; for "+carsTarget+", --"+pathOption+" names the folder."), options...)
	}(),
	Run: func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		m, err := newMigration(req, res, env)
		if err == nil {
			err = m.run(req.Context)
		}
		switch {
		case err == nil:
			return nil
		case req.Context.Err() != nil:
			return errors.New("datastore migrate: broken off; what is copied is copied: call it again to go on")
		}
		return fmt.Errorf("datastore migrate: %w", err)
	},
	Type:     migrateEvent{},
	Encoders: migrateEncoders,
	PostRun:  cmds.PostRunMap{cmds.CLI: showMigration},
}

// limits throttle a migration; 0 is no limit.
type limits struct {
	bandwidth float64 // bytes per second
	requests  float64 // per second
}

// migration is one call of the command.
type migration struct {
	req    *cmds.Request
	env    cmds.Environment
	root   string // of the repo
	report *migrateReporter

	to, from, path                                      string
	online, merge, skipDamaged, remove, abandon, dryRun bool
	limits                                              limits
}

// newMigration reads the flags, and refuses those that do not go together.
func newMigration(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) (*migration, error) {
	root, err := repoRoot(req)
	if err != nil {
		return nil, err
	}
	text := func(name string) string { s, _ := req.Options[name].(string); return s }
	truth := func(name string) bool { b, _ := req.Options[name].(bool); return b }
	m := &migration{
		req: req, env: env, root: root, report: &migrateReporter{res: res},
		to: text(toOption), from: text(fromOption), path: text(pathOption),
		online: truth(onlineOption), merge: truth(mergeOption), skipDamaged: truth(skipDamagedOption),
		remove: truth(deleteOption), abandon: truth(abandonOption), dryRun: truth(dryRunOption),
	}
	if s := text(bandwidthOption); s != "" {
		n, err := humanize.ParseBytes(strings.TrimSuffix(s, "/s"))
		if err != nil || n == 0 {
			return nil, fmt.Errorf("--%s %q: use bytes per second, for example 50MB", bandwidthOption, s)
		}
		m.limits.bandwidth = float64(n)
	}
	if n, ok := req.Options[requestsOption].(float64); ok {
		if !(n > 0) {
			return nil, fmt.Errorf("--%s %v: use requests per second, more than 0", requestsOption, n)
		}
		m.limits.requests = n
	}
	return m, m.check()
}

// check is about flags alone.
func (m *migration) check() error {
	var buckets []string
	for _, f := range settings.Flags() {
		if v, _ := m.req.Options[f.Name].(string); v != "" && strings.HasPrefix(f.Help, settings.S3+":") && !strings.Contains(f.Help, settings.EFS+":") {
			buckets = append(buckets, "--"+f.Name)
		}
	}
	switch {
	case m.to != "" && m.from != "":
		return fmt.Errorf("--%s and --%s: give one of them: --%s restores into the store that the repo has", toOption, fromOption, fromOption)
	case m.abandon && (m.to != "" || m.from != "" || m.remove || m.online):
		return fmt.Errorf("--%s goes with no other flag", abandonOption)
	case m.to == "" && m.from == "" && !m.remove && !m.abandon:
		return fmt.Errorf("say where to: --%s s3 --bucket NAME, --%s efs, --%s flatfs or --%s cars --%s FOLDER; or --%s FOLDER to restore a backup", toOption, toOption, toOption, toOption, pathOption, fromOption)
	case m.from != "" && (m.remove || m.path != "" || len(buckets) > 0):
		return fmt.Errorf("--%s FOLDER restores into the store that the repo has, and removes nothing: leave --%s, --%s and the flags of a bucket out", fromOption, deleteOption, pathOption)
	case m.to == carsTarget && m.remove:
		return fmt.Errorf("--%s: a backup to CAR files leaves the repo where it is: there is nothing to remove", deleteOption)
	case m.to == carsTarget && m.path == "":
		return fmt.Errorf("--%s %s needs --%s, the folder for the CAR files", toOption, carsTarget, pathOption)
	case m.to == settings.S3 && m.path != "":
		return fmt.Errorf("--%s: not with --%s s3, which takes --bucket and --prefix", pathOption, toOption)
	case m.to != settings.S3 && len(buckets) > 0:
		return fmt.Errorf("%s: only with --%s s3", strings.Join(buckets, ", "), toOption)
	case m.to == settings.S3 && m.req.Options["bucket"] == nil:
		return fmt.Errorf("--%s s3 needs --bucket, the S3 bucket that is to hold the blocks", toOption)
	case m.to != "" && !slices.Contains(targets, m.to):
		return fmt.Errorf("--%s %q is not known: use one of %s", toOption, m.to, strings.Join(targets, ", "))
	case m.online && m.to == "":
		return fmt.Errorf("--%s goes with --%s", onlineOption, toOption)
	}
	return nil
}

// targetSpec is the spec of the store that is to be migrated to.
func (m *migration) targetSpec(source map[string]any) (map[string]any, error) {
	s, err := settings.Load(m.req.Context, settings.Input{Environ: aboutTarget(os.Environ(), m.to), Flags: blockstoreFlags(m.req, toOption), Chooser: toOption})
	if err != nil {
		return nil, err
	}
	spec := s.Blocks.Spec
	if m.to != settings.S3 {
		return spec, nil
	}
	// Static keys of a repo that go-ds-s3 made are good for other prefixes of the bucket.
	if from := innermost(source); isS3(source) && from["bucket"] == spec["bucket"] {
		for _, key := range append([]string{"accessKey"}, credentialKeys...) {
			if v, ok := from[key]; ok {
				spec[key] = v
			}
		}
		if from["regionEndpoint"] != nil && spec["regionEndpoint"] == nil {
			spec["regionEndpoint"] = from["regionEndpoint"]
		}
	}
	return spec, ownFolders(m.root, spec, source)
}

// aboutTarget leaves what an environment says about another blockstore out: that is
// the one that the repo has.
func aboutTarget(environ []string, target string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		for _, store := range []string{settings.Flatfs, settings.EFS, settings.S3} {
			if store != target && strings.HasPrefix(v, "IPFS_"+strings.ToUpper(store)+"_") {
				return true
			}
		}
		return false
	})
}

// run does what the flags say.
func (m *migration) run(ctx context.Context) error {
	n, live, err := m.running()
	switch {
	case err != nil:
		return err
	case n != nil:
		return m.beside(ctx, n, live)
	}
	return m.offline(ctx)
}

func abs(path string) (string, error) {
	p, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}
