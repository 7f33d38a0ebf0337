package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cmds "github.com/ipfs/go-ipfs-cmds"
	kubo "github.com/ipfs/kubo"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/core/commands"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/ipfs/kubo/repo/fsrepo/migrations"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/internal/container"
	"github.com/ipfs-aws/ipfs-aws/internal/durable"
	"github.com/ipfs-aws/ipfs-aws/plugin/health"
	s3plugin "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
)

const checkOption = "check"

// containerCmd is the entry of the image: it makes, migrates and configures the
// repo as the settings say, and becomes the daemon.
func containerCmd(daemon *cmds.Command) *cmds.Command {
	options := []cmds.Option{cmds.BoolOption(checkOption, "Check the settings and the volume, change nothing, and exit with 0 if all is well.")}
	for _, o := range daemon.Options {
		if !slices.Contains([]string{"init", "init-config", "init-profile", "migrate"}, o.Name()) {
			options = append(options, o)
		}
	}
	return &cmds.Command{
		Helptext: cmds.HelpText{
			Tagline: "Run the node as the settings in the environment say.",
			ShortDescription: `
What the image runs. All settings come from the environment (docs/settings.md
lists them); all that is wrong with them is told at once, before anything is
touched. On an empty volume the repo is made, with the blockstore efs unless
IPFS_BLOCKSTORE names another; an older repo is migrated; changed settings are
applied to its config; then this process is the daemon. It takes the daemon's
options.

  $ ipfs-aws container
  $ IPFS_BLOCKSTORE=s3 IPFS_S3_BUCKET=my-blocks ipfs-aws container
  $ IPFS_CONFIG_Swarm_ConnMgr_HighWater=200 ipfs-aws container --enable-gc
  $ ipfs-aws container --check

SIGTERM and SIGINT end it in order: it is not ready from that moment, serves
on for 3 to 15 seconds, until no more requests come, and then closes within
Internal.ShutdownTimeout (70s here). A second signal ends it at once, which
loses nothing that was acknowledged. The exit code is 0 after an end in order,
1 if the settings or the volume are refused or the node has failed.
`,
		},
		Options:  options,
		NoRemote: true,
		Extra:    commands.CreateCmdExtras(commands.SetDoesNotUseConfigAsInput(true)),
		Run: func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
			root, err := repoRoot(req)
			if err != nil {
				return err
			}
			if check, _ := req.Options[checkOption].(bool); check {
				return checkContainer(root, settingsOf(req))
			}
			openHealth(root)
			if err := prepareContainer(req, res, env, root); err != nil {
				return err
			}
			keepSettings(req, &settings.Settings{}) // they are applied
			req.Context = drained(req.Context)
			return daemon.Run(req, res, env)
		},
	}
}

// checkContainer tells what a start would do, as far as can be told without
// doing it. Settings and volume were looked at before.
func checkContainer(root string, s *settings.Settings) error {
	tell(s)
	if !fsrepo.IsInitialized(root) || halfMade(root) {
		say("all is well: a new repo would be made at %s, blockstore %s, %s", root, s.Blocks.Name, s.Blocks.Where())
		return nil
	}
	v, err := repoVersion(root)
	if err != nil {
		return refused("container", err)
	}
	p, err := s.Plan(root)
	if err != nil {
		return refused("container", err)
	}
	alwaysInContainer(s)(p)
	for _, note := range p.Notes {
		say("settings: %s", note)
	}
	for _, c := range p.Changes {
		say("settings: %s", c)
	}
	migration := ""
	if v < kubo.RepoVersion {
		migration = fmt.Sprintf(", version %d would be migrated to %d", v, kubo.RepoVersion)
	}
	say("all is well: the repo at %s is there%s, %d settings would change", root, migration, len(p.Changes))
	return nil
}

// prepareContainer makes the repo what the settings say. It may be killed at any
// point and called again.
func prepareContainer(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment, root string) error {
	s := settingsOf(req)
	tell(s)
	fresh := !fsrepo.IsInitialized(root) || halfMade(root)
	if !fresh {
		// The task before this one may still be about to end. kubo waits as well, but
		// for no signal.
		lock, err := lockRepo(req.Context, root)
		if err != nil {
			return refused("container", err)
		}
		if err := lock.Close(); err != nil {
			return fmt.Errorf("container: leave the repo to the daemon: %w", err)
		}
	}
	if fresh {
		say("container: making a repo at %s, blockstore %s, %s", root, s.Blocks.Name, s.Blocks.Where())
		if err := makeRepo(req, res, env, s.Profiles, openGateway); err != nil {
			return err
		}
	}
	v, err := repoVersion(root)
	if err != nil {
		return refused("container", err)
	}
	if v < kubo.RepoVersion {
		if err := migrateRepo(req.Context, root, v); err != nil {
			return refused("container", err)
		}
	}
	if err := writeSwarmKey(root, s.SwarmKey); err != nil {
		return refused("container", err)
	}
	again, err := applySettings(req.Context, root, s, alwaysInContainer(s))
	if err != nil {
		return refused("container", err)
	}
	if again {
		return restart()
	}
	if err := limitMemory(root); err != nil {
		return refused("container", err)
	}
	if os.Getpid() == 1 {
		container.ReapOrphans(req.Context)
	}
	return req.Context.Err()
}

// openGateway lets a new repo's gateway be reached from outside of the container.
// The RPC stays on loopback, where the sidecar is.
func openGateway(conf *config.Config) {
	conf.Addresses.Gateway = config.Strings{"/ip4/0.0.0.0/tcp/8080"}
}

// limitMemory keeps the heap below what the container may have, beside the read
// memory of a blockstore in a bucket, which is not on the heap.
func limitMemory(root string) error {
	mapped := int64(0)
	spec, _ := configValue(root, "Datastore", "Spec").(map[string]any)
	if store := settings.BlocksStore(spec); store != nil && store["type"] == s3ds.Type {
		c, err := s3plugin.Parse(store)
		if err != nil {
			return err // the daemon would say the same
		}
		mapped = c.MappedMemory()
	}
	said, err := container.SetMemoryLimit(mapped)
	if err == nil && said != "" {
		say("memory: %s", said)
	}
	return err
}

// alwaysInContainer is what a container's config says where nobody says
// otherwise.
func alwaysInContainer(s *settings.Settings) func(*settings.Plan) {
	return func(p *settings.Plan) {
		// kubo waits 12 h; ECS kills after 120 s at most. Before it come up to 15 s of drained, and 30 s that kubo
		// grants requests which hang.
		p.SetDefault("Internal.ShutdownTimeout", "70s", "default of container")
		if s.SwarmKey == nil {
			return
		}
		for _, key := range slices.Sorted(maps.Keys(privateNetwork)) {
			if !overridden(s, key) {
				p.Set(key, privateNetwork[key], "private network")
			}
		}
	}
}

// privateNetwork is what kubo wants of the config of a node in a private
// network: nothing that asks public services, which do not know its peers.
var privateNetwork = map[string]any{
	"AutoConf.Enabled":         false,
	"AutoTLS.Enabled":          false,
	"Bootstrap":                []any{},
	"DNS.Resolvers":            map[string]any{},
	"Ipns.DelegatedPublishers": []any{},
	"Routing.DelegatedRouters": []any{},
	"Routing.Type":             "dht",
}

// overridden reports whether a setting names the key or what is below it.
func overridden(s *settings.Settings, key string) bool {
	return slices.ContainsFunc(s.Overrides, func(o settings.Override) bool {
		return o.Key() == key || strings.HasPrefix(o.Key(), key+".")
	})
}

// repoVersion is the version of the format of a repo, which this program can
// read or migrate.
func repoVersion(root string) (int, error) {
	v, err := migrations.RepoVersion(root)
	if err != nil {
		return 0, fmt.Errorf("the repo at %s does not say which version it has (%w): restore its file version from a backup", root, err)
	}
	if v > kubo.RepoVersion {
		return 0, fmt.Errorf("the repo at %s has version %d, and this release reads versions up to %d, nothing was changed: start a newer release", root, v, kubo.RepoVersion)
	}
	return v, nil
}

// firstEmbedded is the oldest version that kubo migrates without the network.
const firstEmbedded = 16

// migrateRepo brings the format of a repo to the version that this release
// reads.
//
// upstream: repo-migrations
func migrateRepo(ctx context.Context, root string, from int) error {
	say("migrating the repo at %s from version %d to %d", root, from, kubo.RepoVersion)
	if from < firstEmbedded {
		say("migrations from versions before %d are not part of this release: they are fetched from the network (IPFS_DIST_PATH), or found in PATH as fs-repo-%d-to-%d and so on", firstEmbedded, from, from+1)
	}
	if err := migrations.RunHybridMigrations(ctx, kubo.RepoVersion, root, false); err != nil {
		if from < firstEmbedded {
			return fmt.Errorf("the repo at %s has version %d, and the migrations to version %d could not be fetched or run (%w): "+
				"give this container a way out to the network for one start, or start the repo once with a kubo release between the two (0.36 reads and migrates it)", root, from, firstEmbedded, err)
		}
		return fmt.Errorf("migrate the repo at %s from version %d: %w", root, from, err)
	}
	return nil
}

// writeSwarmKey puts the key of a private network where kubo looks for it.
//
// upstream: repo-files
func writeSwarmKey(root string, key []byte) error {
	if key == nil {
		return nil
	}
	path := filepath.Join(root, "swarm.key")
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(bytes.TrimSpace(old), bytes.TrimSpace(key)) {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the swarm key of the repo: %w", err)
	}
	if err := durable.WriteFile(path, key, 0o400); err != nil {
		return err
	}
	say("settings: swarm.key: %s (%s)", map[bool]string{true: "set", false: "replaced"}[old == nil], settings.SwarmKey)
	return nil
}

// defaultHealthListener gives a container a health listener, on loopback, so that
// `ipfs-aws health` has whom to ask.
func defaultHealthListener(req *cmds.Request, root string) {
	if req.Path[0] == "container" && os.Getenv(settings.HealthAddress) == "" && configuredHealth(root) == "" {
		os.Setenv(settings.HealthAddress, settings.DefaultHealthAddress)
	}
}

// openHealth lets the process say that it is alive while it waits for the repo, migrates it, or a blockstore makes
// its index again: each may take longer than ECS or Kubernetes wait for a sign of life.
func openHealth(root string) {
	address := os.Getenv(settings.HealthAddress)
	if address == "" {
		address = configuredHealth(root)
	}
	if address != "" {
		health.Open(address)
	}
}

// usable reports whether this process may work in a repo folder, with the fix if
// it may not.
func usable(root string) error {
	return container.UsableVolume(root, "config", "version", "datastore_spec", "repo.lock", "datastore", "blocks", "keystore", "s3ds", "gc")
}
