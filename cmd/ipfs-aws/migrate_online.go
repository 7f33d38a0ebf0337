package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"time"

	"github.com/ipfs/boxo/blockstore"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	oldcmds "github.com/ipfs/kubo/commands"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/repo/fsrepo"
	mh "github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/datastore/migrate"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/datastore/tiered"
	s3plugin "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
	"github.com/ipfs-aws/ipfs-aws/plugin/swap"
	tieredplugin "github.com/ipfs-aws/ipfs-aws/plugin/tiered"
)

// running is the node that the command runs inside of, nil if there is none: then the repo is ours alone.
func (m *migration) running() (*core.IpfsNode, *swap.Live, error) {
	env, ok := m.env.(*oldcmds.Context)
	if !ok {
		return nil, nil, fmt.Errorf("the environment of the command is a %T", m.env)
	}
	if _, open := swap.Opened(m.root); !open {
		return nil, nil, nil
	}
	n, err := env.GetNode()
	if err != nil {
		return nil, nil, err
	}
	live, ok := swap.Opened(n.Repo.Path())
	if !ok {
		return nil, nil, errors.New("the node is shutting down")
	}
	return n, live, nil
}

// beside does it inside of a running daemon.
func (m *migration) beside(ctx context.Context, n *core.IpfsNode, live *swap.Live) error {
	conf, record, err := m.readRepo()
	if err != nil {
		return err
	}
	at, err := placed(conf.Datastore.Spec)
	if err != nil {
		return err
	}
	if !live.Migrating.TryLock() {
		return errors.New("one is at work already in this daemon")
	}
	defer live.Migrating.Unlock()
	switch {
	case m.abandon:
		return m.forget(record)
	case m.from != "":
		return m.restoreBeside(ctx, n, live, at)
	case m.to == carsTarget:
		return m.backupBeside(ctx, n, live, at)
	case m.to == "":
		if live.Moved() {
			return fmt.Errorf("--%s: this daemon has the old store open still: restart it first, then call this again", deleteOption)
		}
		return m.removeSource(ctx, record, at, migrate.Report{})
	case m.remove:
		return fmt.Errorf("--%s: not beside a daemon, which has the old store open until it is restarted: leave it out, and call `ipfs-aws datastore migrate --%s` after a restart", deleteOption, deleteOption)
	case !m.online && !m.dryRun:
		return fmt.Errorf("a daemon is running: stop it first, or let it do the work with --%s; nothing was changed", onlineOption)
	}
	o := &onlineMove{migration: m, n: n, live: live, record: record, at: at}
	defer live.Tell(nil)
	return o.run(ctx)
}

// onlineMove is a migration inside of a daemon.
type onlineMove struct {
	*migration
	n      *core.IpfsNode
	live   *swap.Live
	record *swap.Record
	at     placement

	from, spec map[string]any
	both       *tiered.Store
}

func (o *onlineMove) run(ctx context.Context) error {
	if o.at.whole {
		return errors.New("this repo keeps its blocks and everything else in one store, which cannot be opened twice: stop the daemon, and call it without --" + onlineOption)
	}
	spec, err := o.targetSpec(o.at.blocks)
	if err != nil {
		return err
	}
	o.from, o.spec = o.at.blocks, spec
	same := identity(o.root, spec)
	moving := o.record != nil && o.record.Phase == swap.Tiered
	switch {
	case moving || o.record != nil && o.record.Phase == swap.Copying:
		if identity(o.root, o.record.To) != same {
			return fmt.Errorf("a migration to %s is under way: call it with that target to go on, or give it up with --%s", called(o.root, o.record.To), abandonOption)
		}
		o.spec = o.record.To
		if moving {
			o.from = o.record.From
		}
	case same == identity(o.root, o.at.blocks):
		if o.record != nil && o.record.Phase == swap.Switched && identity(o.root, o.record.To) == same {
			return o.report.result(migrate.Report{}, 0, "the repo uses %s already: there is nothing left to do", called(o.root, spec))
		}
		return o.sameStore(o.at.blocks, spec)
	case o.live.Moved():
		return fmt.Errorf("this daemon has gone over to %s since it was started, and has the store before that open still: restart it first", called(o.root, o.at.blocks))
	}
	if o.dryRun {
		return o.estimateFrom(ctx, migrate.Datastore{Store: o.live.Now()}, called(o.root, o.from), o.from, o.spec)
	}
	if o.both, err = o.enter(ctx, moving); err != nil {
		return err
	}
	rep, err := o.copy(ctx)
	if err != nil {
		return err
	}
	conf, err := o.n.Repo.Config()
	if err != nil {
		return err
	}
	decision, err := decide(conf, o.to, o.spec)
	if err != nil {
		return err
	}
	if err := swap.Switch(o.root, o.n.Repo, decision); err != nil {
		return err
	}
	if err := o.live.Use(ctx, o.both.Hot(), nil); err != nil {
		return fmt.Errorf("the repo is switched; calls that had begun before are still under way: %w", err)
	}
	if err := os.RemoveAll(swap.Ledger(o.root)); err != nil {
		return fmt.Errorf("remove the ledger: %w", err)
	}
	return o.report.result(rep, 0, "the daemon uses %s now, without a restart: %s; the old store, %s, is as it was: after the next restart remove it with `ipfs-aws datastore migrate --%s`",
		called(o.root, o.spec), describeReport(rep), called(o.root, o.from), deleteOption)
}

// enter has the daemon use both stores. moving says that the config names both already: the daemon was started with them, or an
// earlier call has come this far.
func (o *onlineMove) enter(ctx context.Context, moving bool) (*tiered.Store, error) {
	if moving {
		if both := o.live.Both(); both != nil {
			return both, nil
		}
		both, ok := tieredplugin.Opened(o.n.Repo.Path())
		if !ok {
			return nil, errors.New("the config names two stores, and the daemon has one: restart it, and call it again")
		}
		return both, nil
	}
	if err := o.probe(ctx, o.spec); err != nil {
		return nil, err
	}
	config, err := fsrepo.AnyDatastoreConfig(o.spec)
	if err != nil {
		return nil, err
	}
	hot, err := config.Create(o.n.Repo.Path())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", called(o.root, o.spec), err)
	}
	own := o.live.Own
	back := func(err error) error { // to how it was
		late := context.WithoutCancel(ctx)
		return errors.Join(err, o.live.Use(late, own, nil), hot.Close())
	}
	// What an earlier call has copied may be deleted from now on: from there, too.
	if err := o.live.Use(ctx, swap.DeletesAlso(own, hot), nil); err != nil {
		return nil, back(err)
	}
	if o.record == nil || o.record.Phase != swap.Copying {
		if err := os.RemoveAll(swap.Ledger(o.root)); err != nil {
			return nil, back(fmt.Errorf("remove the ledger of an earlier migration: %w", err))
		}
		o.record = &swap.Record{Phase: swap.Copying, Begun: time.Now().UTC()}
	}
	o.record.From, o.record.To, o.record.Merge = o.from, o.spec, o.record.Merge || o.merge
	options := o.options(nil, nil, ctx, nil)
	options.Dir, options.Merge, options.Progress = swap.Ledger(o.root), o.record.Merge, o.progress
	rep, err := migrate.Prepare(ctx, migrate.Datastore{Store: own}, migrate.Datastore{Store: hot}, options)
	if err == nil {
		err = o.room(o.spec, rep)
	}
	if err == nil {
		err = o.record.Save(o.root)
	}
	if err != nil {
		return nil, back(o.explain(err, called(o.root, o.spec)))
	}
	conf, err := o.n.Repo.Config()
	if err != nil {
		return nil, back(err)
	}
	child := func(spec map[string]any) map[string]any {
		spec = maps.Clone(spec)
		delete(spec, "mountpoint")
		return spec
	}
	twoStores := map[string]any{"type": tieredplugin.TypeName, "hot": child(o.spec), "cold": child(o.from)}
	decision, err := swap.Decide(withBlocks(conf.Datastore.Spec, twoStores), swap.Tiered, nil)
	if err != nil {
		return nil, back(err)
	}
	// From here on it goes forward only: after a crash the daemon opens both stores.
	both := tiered.New(hot, own, tiered.Options{})
	o.live.Announce(both)
	if err := swap.Switch(o.root, o.n.Repo, decision); err != nil {
		return nil, back(err)
	}
	o.live.Keep(hot)
	if err := o.live.Use(context.WithoutCancel(ctx), both, both); err != nil {
		return nil, err
	}
	return both, nil
}

// progress tells whoever called, and whoever asks the daemon how it is.
func (o *onlineMove) progress(p migrate.Progress) {
	o.live.Tell(&p)
	o.report.progress(p)
}

// copy copies what is in the cold store only.
func (o *onlineMove) copy(ctx context.Context) (migrate.Report, error) {
	source, target := o.s3Store(o.from), o.s3Store(o.spec)
	mover := o.both.Mover()
	defer mover.Close()
	cold := migrate.Datastore{Store: o.both.Cold(), Damaged: damagedBlock}
	if p, ok := source.(*s3ds.Packed); ok {
		cold.Stored = p.Stored
	}
	opts := o.options(nil, nil, ctx, target)
	opts.Dir, opts.Live, opts.Reread, opts.Progress = swap.Ledger(o.root), true, source == nil, o.progress
	opts.Roots = pinnedRoots(ctx, o.n)
	opts.Cost = costOf(source, target)
	if target == nil {
		opts.Commits = 4
	}
	rep, err := migrate.Run(ctx, movingSource{cold, mover}, movingTarget{migrate.Datastore{Store: o.both.Hot(), Damaged: damagedBlock}, mover}, opts)
	if err != nil {
		return rep, o.explain(err, called(o.root, o.spec))
	}
	if err := drain(ctx, target); err != nil {
		return rep, err
	}
	rep.Cost = opts.Cost()
	return rep, nil
}

// s3Store is the open store of a spec, nil if it is not in S3.
func (o *onlineMove) s3Store(spec map[string]any) s3ds.Store {
	if !isS3(spec) {
		return nil
	}
	c, err := s3plugin.Parse(innermost(spec))
	if err != nil {
		return nil // it could not have been opened
	}
	s, ok := s3plugin.Opened(o.n.Repo.Path(), c)
	if !ok {
		return nil
	}
	return s
}

func pinnedRoots(ctx context.Context, n *core.IpfsNode) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		for c := range rootsOf(ctx, n) {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// movingSource reads what is to be moved, in a way that a delete meanwhile is noticed.
type movingSource struct {
	migrate.Datastore
	mover *tiered.Mover
}

var _ migrate.Forgetful = movingSource{}

func (s movingSource) Get(ctx context.Context, h mh.Multihash) ([]byte, error) {
	data, err := s.mover.Get(ctx, migrate.Key(h))
	return data, s.Classify(err)
}

func (s movingSource) Forget(h mh.Multihash) { s.mover.Drop(migrate.Key(h)) }

// movingTarget writes it, but for what was deleted.
type movingTarget struct {
	migrate.Datastore
	mover *tiered.Mover
}

func (t movingTarget) Put(ctx context.Context, blocks []migrate.Block) error {
	entries := make([]tiered.Entry, len(blocks))
	for i, b := range blocks {
		entries[i] = tiered.Entry{Key: migrate.Key(b.Hash), Value: b.Data}
	}
	_, err := t.mover.Put(ctx, entries)
	return err
}

// backupBeside writes CAR files while the daemon runs. Garbage collection waits for it.
func (m *migration) backupBeside(ctx context.Context, n *core.IpfsNode, live *swap.Live, at placement) (err error) {
	if m.path, err = abs(m.path); err != nil {
		return err
	}
	source := migrate.Datastore{Store: live.Now(), Damaged: damagedBlock}
	if m.dryRun {
		return m.estimateFrom(ctx, source, called(m.root, at.blocks), at.blocks, nil)
	}
	if err := probeFolder(m.path); err != nil {
		return err
	}
	defer n.Blockstore.PinLock(ctx).Unlock(ctx)
	pins := &pinset{pinner: n.Pinning, dag: n.DAG}
	if n.FilesRoot != nil {
		root, err := n.FilesRoot.GetDirectory().GetNode()
		if err != nil {
			return fmt.Errorf("read the root of MFS: %w", err)
		}
		pins.mfs = root.Cid()
	}
	// What is pinned now, is all there; what is pinned while the blocks are copied may have some that are not.
	frozen, err := pins.freeze(ctx)
	if err != nil {
		return err
	}
	o := m.options(nil, nil, ctx, nil)
	o.Roots, o.Live = frozen.roots(ctx), true
	return m.backupFrom(ctx, source, frozen, o)
}

// restoreBeside brings a backup into the store of a running daemon, through its blockstore, which remembers what it has not.
func (m *migration) restoreBeside(ctx context.Context, n *core.IpfsNode, live *swap.Live, at placement) error {
	folder, name, err := m.openBackup()
	if err != nil {
		return err
	}
	if m.dryRun {
		return m.estimateFrom(ctx, folder, name, map[string]any{"type": carsTarget}, at.blocks)
	}
	defer n.Blockstore.PinLock(ctx).Unlock(ctx)
	o := m.options(nil, nil, ctx, nil)
	o.Begin = func(rep migrate.Report) error { return m.room(at.blocks, rep) }
	target := nodeTarget{migrate.Datastore{Store: live.Now(), Damaged: damagedBlock}, n.Blockstore}
	rep, err := m.restoreTo(ctx, folder, target, o)
	if err != nil {
		return err
	}
	return m.restorePins(ctx, folder, &pinset{pinner: n.Pinning, dag: n.DAG}, rep, called(m.root, at.blocks))
}

// nodeTarget writes through the blockstore of a node.
type nodeTarget struct {
	migrate.Datastore
	blockstore.Blockstore
}

func (t nodeTarget) Put(ctx context.Context, blocks []migrate.Block) error {
	many := make([]block.Block, len(blocks))
	for i, b := range blocks {
		var err error
		if many[i], err = block.NewBlockWithCid(b.Data, cid.NewCidV1(cid.Raw, b.Hash)); err != nil {
			return err
		}
	}
	return t.PutMany(ctx, many)
}

func (t nodeTarget) Get(ctx context.Context, h mh.Multihash) ([]byte, error) {
	return t.Datastore.Get(ctx, h)
}

// Delete goes through the blockstore as well: it remembers what is there, and would not pass on the next put.
func (t nodeTarget) Delete(ctx context.Context, hashes []mh.Multihash) error {
	for _, h := range hashes {
		if err := t.DeleteBlock(ctx, cid.NewCidV1(cid.Raw, h)); err != nil {
			return err
		}
	}
	return nil
}
