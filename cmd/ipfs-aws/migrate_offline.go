package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	humanize "github.com/dustin/go-humanize"
	ds "github.com/ipfs/go-datastore"
	lockfile "github.com/ipfs/go-fs-lock"
	"github.com/ipfs/kubo/config"
	serialize "github.com/ipfs/kubo/config/serialize"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/ipfs/kubo/repo/fsrepo/migrations"
	mh "github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
	"github.com/ipfs-aws/ipfs-aws/datastore/cars"
	"github.com/ipfs-aws/ipfs-aws/datastore/migrate"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	s3plugin "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
	"github.com/ipfs-aws/ipfs-aws/plugin/swap"
)

// readRepo is the config of the repo, and its record.
func (m *migration) readRepo() (*config.Config, *swap.Record, error) {
	path := filepath.Join(m.root, config.DefaultConfigFile)
	var conf config.Config
	if err := serialize.ReadConfigFile(path, &conf); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, serialize.ErrNotInitialized) {
			return nil, nil, fmt.Errorf("there is no repo at %s: name another with IPFS_PATH, or make one with `ipfs-aws init`", m.root)
		}
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	record, err := swap.Load(m.root)
	return &conf, record, err
}

// lockRepo keeps everybody else from the repo.
func (m *migration) lockRepo() (io.Closer, error) {
	lock, err := lockfile.Lock(m.root, fsrepo.LockFile)
	if err != nil {
		var locked lockfile.LockedError
		if errors.As(err, &locked) {
			return nil, fmt.Errorf("a daemon or another command uses the repo at %s: stop it first, or let a daemon do it with --%s; nothing was changed", m.root, onlineOption)
		}
		return nil, fmt.Errorf("lock the repo: %w", err)
	}
	v, err := migrations.RepoVersion(m.root)
	if err == nil && v != fsrepo.RepoVersion {
		err = fmt.Errorf("the repo has version %d and this ipfs-aws wants %d: start it once with `ipfs-aws daemon --migrate`", v, fsrepo.RepoVersion)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// offline does it without a daemon.
func (m *migration) offline(ctx context.Context) (err error) {
	if m.online {
		return fmt.Errorf("--%s: no daemon is running: leave it out", onlineOption)
	}
	if _, _, err := m.readRepo(); err != nil {
		return err
	}
	lock, err := m.lockRepo()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	conf, record, err := m.readRepo() // again: nobody changes it from here on
	if err != nil {
		return err
	}
	at, err := placed(conf.Datastore.Spec)
	if err != nil {
		return err
	}
	switch {
	case m.abandon:
		return m.forget(record)
	case m.from != "":
		return m.restore(ctx, at)
	case m.to == carsTarget:
		return m.backup(ctx, at)
	case m.to == "":
		return m.removeSource(ctx, record, at, migrate.Report{})
	}
	return m.move(ctx, conf, record, at)
}

// forget gives a migration up.
func (m *migration) forget(record *swap.Record) error {
	switch {
	case record == nil:
		return errors.New("there is no migration to abandon")
	case record.Phase == swap.Tiered:
		return fmt.Errorf("new blocks are in %s already, and nowhere else: let the migration end, and migrate back", called(m.root, record.To))
	case record.Phase == swap.Switched:
		return fmt.Errorf("the repo uses %s already: migrate back if you want to, or remove the old store with --%s", called(m.root, record.To), deleteOption)
	}
	if err := swap.Forget(m.root); err != nil {
		return err
	}
	return m.report.result(migrate.Report{}, 0, "forgotten; what was copied is in %s", called(m.root, record.To))
}

// stores are the two ends of a migration, open.
type stores struct {
	source, target *blockStore
	root           ds.Datastore // the rest of the repo
	pins           *pinset
}

func (s *stores) Close() error {
	var errs []error
	for _, b := range []*blockStore{s.target, s.source} {
		if b != nil {
			errs = append(errs, b.Close())
		}
	}
	if s.root != nil && (s.source == nil || s.root != s.source.base) {
		errs = append(errs, s.root.Close())
	}
	return errors.Join(errs...)
}

// openSource opens the store that the repo has, and its pins.
func (m *migration) openSource(ctx context.Context, at placement, blocks map[string]any) (_ *stores, err error) {
	s := &stores{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.source, err = openBlocks(ctx, m.root, blocks, at.whole, m.indexing); err != nil {
		return nil, err
	}
	s.root = s.source.base
	if !at.whole {
		config, err := fsrepo.AnyDatastoreConfig(at.root)
		if err != nil {
			return nil, fmt.Errorf("config Datastore.Spec: %w", err)
		}
		if s.root, err = config.Create(m.root); err != nil {
			return nil, fmt.Errorf("open the datastore at /: %w", err)
		}
	}
	batching, ok := s.root.(ds.Batching)
	if !ok {
		return nil, fmt.Errorf("the datastore at / is a %T, which has no batches", s.root)
	}
	s.pins, err = openPins(ctx, batching, s.source.store)
	return s, err
}

func (m *migration) indexing(p s3ds.Progress) {
	m.report.progress(migrate.Progress{Stage: "making the index from the bucket", Blocks: p.Blocks, Bytes: p.Bytes})
}

// options are what all migrations have in common.
func (m *migration) options(source *blockStore, roots *pinset, ctx context.Context, target s3ds.Store) migrate.Options {
	o := migrate.Options{
		Merge: m.merge, SkipDamaged: m.skipDamaged, Bandwidth: m.limits.bandwidth, MaxRequests: m.limits.requests,
		Progress: m.report.progress, Found: m.report.finding,
	}
	var from s3ds.Store
	if source != nil {
		from = source.s3
		o.Reread = source.s3 == nil
	}
	if roots != nil {
		o.Roots = roots.roots(ctx)
	}
	o.Cost = costOf(from, target)
	return o
}

// move copies the blocks and switches the repo.
func (m *migration) move(ctx context.Context, conf *config.Config, record *swap.Record, at placement) error {
	spec, err := m.targetSpec(at.blocks)
	if err != nil {
		return err
	}
	tiered := record != nil && record.Phase == swap.Tiered
	from := at.blocks
	if tiered {
		from = record.From
	}
	same := identity(m.root, spec)
	switch {
	case !tiered && same == identity(m.root, at.blocks):
		if record != nil && record.Phase == swap.Switched && m.remove {
			return m.removeSource(ctx, record, at, migrate.Report{})
		}
		if record != nil && record.Phase == swap.Switched && identity(m.root, record.To) == same {
			return m.report.result(migrate.Report{}, 0, "the repo uses %s already: there is nothing left to do", called(m.root, spec))
		}
		return m.sameStore(at.blocks, spec)
	case record != nil && (record.Phase == swap.Copying || tiered):
		if identity(m.root, record.To) != same {
			return fmt.Errorf("a migration to %s is under way: call it with that target to go on, or give it up with --%s", called(m.root, record.To), abandonOption)
		}
		if identity(m.root, record.From) == identity(m.root, from) {
			spec = record.To // with the folders that it has
		}
	}
	if m.dryRun {
		return m.estimate(ctx, at, from, spec)
	}
	if err := m.probe(ctx, spec); err != nil {
		return err
	}
	s, err := m.openSource(ctx, at, from)
	if err != nil {
		return err
	}
	rep, err := m.copyTo(ctx, s, record, spec, from, at.whole, tiered)
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	decision, err := decide(conf, m.to, spec)
	if err != nil {
		return err
	}
	if err := swap.Switch(m.root, nil, decision); err != nil {
		return err
	}
	if err := os.RemoveAll(swap.Ledger(m.root)); err != nil {
		return fmt.Errorf("remove the ledger: %w", err)
	}
	if m.remove {
		record, err := swap.Load(m.root)
		if err != nil {
			return err
		}
		return m.removeSource(ctx, record, placement{blocks: spec}, rep)
	}
	return m.report.result(rep, 0, "the repo uses %s now: %s; the old store, %s, is as it was: remove it with `ipfs-aws datastore migrate --%s`",
		called(m.root, spec), describeReport(rep), called(m.root, from), deleteOption)
}

// sameStore says why there is nothing to copy.
func (m *migration) sameStore(source, target map[string]any) error {
	is := called(m.root, source)
	switch {
	case isFiles(source) && isFiles(target) && describeSpec(source) != describeSpec(target):
		return fmt.Errorf("the blocks are in that folder already (%s), and flatfs and efs have one layout: change the type in the config (docs/efs.md), or choose another folder with --%s", is, pathOption)
	case isS3(source) && innermost(source)["layout"] != innermost(target)["layout"]:
		return fmt.Errorf("source and target are the same bucket and prefix (%s), and either layout reads both: change the layout in the config (docs/s3ds.md), or choose another prefix", is)
	}
	return fmt.Errorf("source and target are the same store (%s): choose another", is)
}

// decide is the decision to use a store from now on, with what `init` sets beside it.
func decide(conf *config.Config, kind string, spec map[string]any) (swap.Decision, error) {
	m, err := config.ToMap(conf)
	if err != nil {
		return swap.Decision{}, err
	}
	keys := (&settings.Blocks{Name: kind, Spec: spec}).Follow(m)
	return swap.Decide(withBlocks(conf.Datastore.Spec, spec), swap.Switched, keys)
}

// copyTo copies all blocks to a store.
func (m *migration) copyTo(ctx context.Context, s *stores, record *swap.Record, spec, from map[string]any, whole, tiered bool) (rep migrate.Report, err error) {
	if s.target, err = openBlocks(ctx, m.root, spec, false, m.indexing); err != nil {
		return rep, err
	}
	if record == nil || record.Phase != swap.Copying && !tiered {
		// Of another migration, which has ended.
		if err := os.RemoveAll(swap.Ledger(m.root)); err != nil {
			return rep, fmt.Errorf("remove the ledger of an earlier migration: %w", err)
		}
		record = &swap.Record{Phase: swap.Copying, Begun: time.Now().UTC()}
	}
	record.From, record.Whole = from, whole
	record.To, record.Merge = spec, record.Merge || m.merge
	o := m.options(s.source, s.pins, ctx, s.target.s3)
	o.Dir, o.Merge, o.Live = swap.Ledger(m.root), record.Merge, tiered
	if s.target.s3 == nil {
		o.Commits = 4
	}
	if s.source.s3 != nil {
		o.InFlight = 2 * 64
	}
	// What is refused until here has left nothing that would have to be given up.
	o.Begin = func(rep migrate.Report) error {
		if err := m.room(spec, rep); err != nil {
			return err
		}
		return record.Save(m.root)
	}
	rep, err = migrate.Run(ctx, s.source.blocks(), s.target.blocks(), o)
	if err == nil || errors.Is(err, migrate.ErrIncomplete) { // which says that the others are in the target
		err = errors.Join(err, drain(ctx, s.target.s3))
	}
	if err != nil {
		return rep, m.explain(err, called(m.root, spec))
	}
	rep.Cost = o.Cost()
	return rep, nil
}

// explain adds what to do about an error of a migration.
func (m *migration) explain(err error, target string) error {
	switch {
	case errors.Is(err, migrate.ErrOtherContent):
		return fmt.Errorf("%s: %w, and nothing was copied: choose an empty place, or add --%s to keep them there beside those of the repo", target, err, mergeOption)
	case errors.Is(err, migrate.ErrIncomplete):
		return fmt.Errorf("%w: the repo was not switched: put these blocks again, or run it with --%s to leave them out", err, skipDamagedOption)
	}
	return err
}

// probe makes sure that the target can be written, read and deleted from, before anything is copied.
func (m *migration) probe(ctx context.Context, spec map[string]any) error {
	if isS3(spec) {
		c, err := s3plugin.Parse(innermost(spec))
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		if err := s3ds.Probe(ctx, c); err != nil {
			return fmt.Errorf("%s: nothing was copied: %w", called(m.root, spec), err)
		}
		return nil
	}
	path, _ := innermost(spec)["path"].(string)
	path = inside(m.root, path)
	if parent := filepath.Dir(path); !isFolder(parent) { // it may be where something is to be mounted: do not fill the disk below it
		return fmt.Errorf("%s is not there, nothing was copied: mount the file system, or make the folder, or choose another one with --%s", parent, pathOption)
	}
	return probeFolder(path)
}

func isFolder(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// probeFolder writes, reads and removes a file where a folder is, or is to be.
func probeFolder(path string) (err error) {
	fail := func(err error) error {
		return fmt.Errorf("%s cannot be written to by user %d, nothing was copied: %w: chown or remount it, or choose another folder with --%s", path, os.Getuid(), err, pathOption)
	}
	dir := path
	for {
		fi, err := os.Stat(dir)
		if err == nil && !fi.IsDir() {
			return fail(errors.New("it is a file"))
		} else if err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir {
			return fail(err)
		}
		dir = filepath.Dir(dir)
	}
	f, err := os.CreateTemp(dir, ".ipfs-aws-probe-*")
	if err != nil {
		return fail(err)
	}
	defer func() {
		if gone := errors.Join(f.Close(), os.Remove(f.Name())); gone != nil && err == nil {
			err = fail(gone)
		}
	}()
	if _, err := f.WriteString("probe"); err != nil {
		return fail(err)
	}
	b := make([]byte, 5)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "probe" {
		return fail(fmt.Errorf("what was written came back as %q: %w", b, err))
	}
	return nil
}

// Room that is needed besides the blocks, in bytes: the blocks of a file system have 4 KiB; a line of the ledger, and what Pebble takes
// until it has merged, is 200; and 64 MiB is for whatever else is written meanwhile.
const (
	fileBlock  = 4 << 10
	ledgerLine = 200
	spareRoom  = 64 << 20
)

// diskFree is freeBytes; tests replace it.
var diskFree = freeBytes

// room refuses to begin what will not fit on the disk.
func (m *migration) room(spec map[string]any, rep migrate.Report) error {
	blocks, size := rep.Blocks-rep.Before, rep.Bytes-rep.BeforeBytes
	type need struct {
		what, path string
		bytes      int64
	}
	needs := []need{{"the ledger", m.root, rep.Blocks * ledgerLine}}
	switch {
	case spec == nil:
		needs = append(needs, need{"the CAR files", m.path, size + blocks*packOverhead})
	case isS3(spec):
		c, err := s3plugin.Parse(innermost(spec))
		if err != nil {
			return err
		}
		journal := c.JournalPath
		if journal == "" {
			journal = "s3ds/journal"
		}
		bound := c.JournalSize
		if bound == 0 {
			bound = 1 << 30
		}
		if c.Layout == s3ds.LayoutPacks {
			needs = append(needs, need{"the journal", inside(m.root, journal), min(size, bound)})
		}
	default:
		path, _ := innermost(spec)["path"].(string)
		needs = append(needs, need{"the blocks", inside(m.root, path), size + blocks*fileBlock})
	}
	for _, n := range needs {
		free, known := diskFree(n.path)
		if known && n.bytes+spareRoom > free {
			return fmt.Errorf("not enough disk: %s in %s may take %s, and %s are free: make room, nothing was copied", n.what, n.path, humanize.IBytes(uint64(n.bytes+spareRoom)), humanize.IBytes(uint64(free)))
		}
	}
	return nil
}

// estimate says what a migration would take.
func (m *migration) estimate(ctx context.Context, at placement, from, spec map[string]any) (err error) {
	source, err := openBlocks(ctx, m.root, from, at.whole, m.indexing)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	return m.estimateFrom(ctx, source.blocks(), source.name, from, spec)
}

func (m *migration) estimateFrom(ctx context.Context, source migrate.Source, name string, from, spec map[string]any) error {
	var blocks, size int64
	for b, err := range source.Blocks(ctx) {
		if err != nil {
			return err
		}
		blocks++
		size += b.Size
		m.report.progress(migrate.Progress{Stage: migrate.ListingSource, Blocks: blocks, Bytes: size})
	}
	to := "CAR files in " + m.path
	if spec != nil {
		to = called(m.root, spec)
	}
	e := estimate(name, to, from, spec, blocks, size, m.limits)
	m.report.say(&migrateEvent{Estimate: &e})
	if err := m.room(spec, migrate.Report{Blocks: blocks, Bytes: size}); err != nil {
		m.report.note("as it is now it would be refused: %v", err)
	}
	return m.report.err
}

// removeSource removes the store that the repo had before.
func (m *migration) removeSource(ctx context.Context, record *swap.Record, at placement, rep migrate.Report) error {
	switch {
	case record == nil, record.Phase == swap.Done:
		return fmt.Errorf("--%s: there is no old store: no migration has switched this repo, or its source was removed already", deleteOption)
	case record.Phase != swap.Switched:
		return fmt.Errorf("--%s: the repo still uses %s: let the migration to %s end first", deleteOption, called(m.root, record.From), called(m.root, record.To))
	case !record.Whole && identity(m.root, record.From) == identity(m.root, at.blocks):
		return fmt.Errorf("--%s: the repo uses %s: that is not removed", deleteOption, called(m.root, record.From))
	}
	name := called(m.root, record.From)
	if m.dryRun {
		m.report.note("would remove %s", name)
		return m.report.err
	}
	err := removeStore(ctx, m.root, record.From, record.Whole, func(n int64) { m.report.counted("removing "+name, n) })
	if err != nil {
		return fmt.Errorf("remove the old store, %s: %w: call it again to go on", name, err)
	}
	record.Phase = swap.Done
	if err := record.Save(m.root); err != nil {
		return err
	}
	return m.report.result(rep, 0, "the old store, %s, is removed; the repo uses %s", name, called(m.root, at.blocks))
}

// deleteAll deletes every block of a store.
func deleteAll(ctx context.Context, store migrate.Target, progress func(int64)) error {
	var some []mh.Multihash
	var removed int64
	flush := func() error {
		if len(some) == 0 {
			return nil
		}
		if err := store.Delete(ctx, some); err != nil {
			return err
		}
		removed += int64(len(some))
		progress(removed)
		some = nil
		return nil
	}
	for b, err := range store.Blocks(ctx) {
		if err != nil {
			return err
		}
		if some = append(some, b.Hash); len(some) == 1024 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return errors.Join(flush(), store.Sync(ctx))
}

// sideLedger is the folder of a ledger that has nothing to do with which store the repo uses.
func (m *migration) sideLedger(kind, path string) string {
	sum := sha256.Sum256([]byte(realPath(path)))
	return filepath.Join(swap.Folder(m.root), kind+"-"+hex.EncodeToString(sum[:8]))
}

// backup copies the blocks to a folder of CAR files, and writes down the pins.
func (m *migration) backup(ctx context.Context, at placement) (err error) {
	if m.path, err = abs(m.path); err != nil {
		return err
	}
	if m.dryRun {
		return m.estimate(ctx, at, at.blocks, nil)
	}
	if err := probeFolder(m.path); err != nil {
		return err
	}
	s, err := m.openSource(ctx, at, at.blocks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	o := m.options(s.source, s.pins, ctx, nil)
	return m.backupFrom(ctx, s.source.blocks(), s.pins, o)
}

func (m *migration) backupFrom(ctx context.Context, source migrate.Source, pins *pinset, o migrate.Options) (err error) {
	folder, err := cars.Create(m.path, cars.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	o.Dir, o.Merge, o.Keep, o.SyncBytes = m.sideLedger("backup", m.path), true, true, cars.DefaultPackSize
	o.Begin = func(rep migrate.Report) error { return m.room(nil, rep) }
	if err := os.MkdirAll(swap.Folder(m.root), 0o700); err != nil {
		return err
	}
	rep, err := migrate.Run(ctx, source, folder, o)
	if err != nil {
		return m.explain(err, m.path)
	}
	written, err := folder.WritePins(pins.all(ctx, true))
	if err != nil {
		return err
	}
	return m.report.result(rep, written, "%s is a backup of the repo: %s; %d pins are written down beside them", m.path, describeReport(rep), written)
}

// restore copies the blocks of a folder of CAR files into the store that the repo has, and pins what was pinned.
func (m *migration) restore(ctx context.Context, at placement) (err error) {
	folder, name, err := m.openBackup()
	if err != nil {
		return err
	}
	s, err := m.openSource(ctx, at, at.blocks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if m.dryRun {
		return m.estimateFrom(ctx, folder, name, map[string]any{"type": carsTarget}, at.blocks)
	}
	o := m.options(nil, nil, ctx, s.source.s3)
	o.Begin = func(rep migrate.Report) error { return m.room(at.blocks, rep) }
	target := s.source
	rep, err := m.restoreTo(ctx, folder, target.blocks(), o)
	if err != nil {
		return err
	}
	if err := drain(ctx, target.s3); err != nil {
		return err
	}
	return m.restorePins(ctx, folder, s.pins, rep, target.name)
}

func (m *migration) openBackup() (*cars.Folder, string, error) {
	dir, err := abs(m.from)
	if err != nil {
		return nil, "", err
	}
	o := cars.Options{}
	if m.skipDamaged {
		o.Damaged = func(e *cars.DamageError) {
			m.report.say(&migrateEvent{Finding: &migrateFinding{Error: e.Error()}})
		}
	}
	folder, err := cars.Open(dir, o)
	var damage *cars.DamageError
	if errors.As(err, &damage) {
		err = fmt.Errorf("%w: restore that file, or add --%s to take what can be read", err, skipDamagedOption)
	}
	return folder, "CAR files in " + dir, err
}

func (m *migration) restoreTo(ctx context.Context, folder *cars.Folder, target migrate.Target, o migrate.Options) (migrate.Report, error) {
	o.Dir, o.Merge, o.Keep = m.sideLedger("restore", m.from), true, true
	if err := os.MkdirAll(swap.Folder(m.root), 0o700); err != nil {
		return migrate.Report{}, err
	}
	rep, err := migrate.Run(ctx, folder, target, o)
	if err != nil {
		return rep, m.explain(err, "the repo")
	}
	// What is there may be deleted by the repo's owner tomorrow, and must come back if it is restored then.
	return rep, os.RemoveAll(o.Dir)
}

func (m *migration) restorePins(ctx context.Context, folder *cars.Folder, pins *pinset, rep migrate.Report, name string) error {
	failed := 0
	made, mfs, err := pins.restore(ctx, folder.Pins(), func(p cars.Pin, err error) {
		failed++
		m.report.say(&migrateEvent{Finding: &migrateFinding{Error: fmt.Sprintf("pin %s is not made, blocks below it are missing: %v", p.CID, err)}})
	})
	if err != nil {
		return err
	}
	if mfs.Defined() {
		m.report.note("what was in MFS is below %s: `ipfs-aws files cp /ipfs/%s /restored` brings it back", mfs, mfs)
	}
	if err := m.report.result(rep, made, "%s holds the backup: %s; %d pins", name, describeReport(rep), made); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d pins could not be made, see above: add the missing blocks and call it again", failed)
	}
	return nil
}

func describeReport(rep migrate.Report) string {
	s := fmt.Sprintf("%d blocks, %s; %d of them copied by this call, in %s, with %d requests, %s", rep.Blocks, humanize.IBytes(uint64(rep.Bytes)),
		rep.Copied, rep.Elapsed.Round(100*time.Millisecond), rep.Cost.Requests, dollars(rep.Cost.USD))
	if rep.Removed > 0 {
		s += fmt.Sprintf("; %d that were deleted since are removed", rep.Removed)
	}
	if rep.Damaged > 0 {
		s += fmt.Sprintf("; %d DAMAGED blocks are left out", rep.Damaged)
	}
	return s
}
