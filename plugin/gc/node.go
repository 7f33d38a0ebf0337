package gc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/filestore"
	"github.com/ipfs/boxo/ipld/merkledag"
	pin "github.com/ipfs/boxo/pinning/pinner"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	format "github.com/ipfs/go-ipld-format"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/corerepo"
	"github.com/ipfs/kubo/core/node"
	"github.com/ipfs/kubo/repo"
	"go.uber.org/fx"

	"github.com/ipfs-aws/ipfs-aws/node/gc"
	"github.com/ipfs-aws/ipfs-aws/node/holders"
	"github.com/ipfs-aws/ipfs-aws/node/pins"
	"github.com/ipfs-aws/ipfs-aws/node/touched"
)

// The variables that say how blocks are protected; cmd/ipfs-aws/settings checks them for the daemon.
const (
	MinAgeEnv = "IPFS_GC_MIN_AGE"
	StallEnv  = "IPFS_PIN_STALL"
)

const (
	// DefaultMinAge is longer than any pause between the parts of one upload that people have reported.
	DefaultMinAge = time.Hour
	// DefaultStall is a little less than the 2 minutes without progress after which ipfs-cluster gives a pin up, so that
	// it hears what is missing.
	DefaultStall = 110 * time.Second
)

func fromEnv(name string, otherwise time.Duration) (time.Duration, error) {
	v := os.Getenv(name)
	if v == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s=%q is not a duration: use one such as %s", name, v, otherwise)
	}
	return d, nil
}

// ending ends when the process was told to end. kubo grants the requests that are under way 30 s: a pin that waits for a block, and a
// collection, need not take them.
var ending, endNow = context.WithCancel(context.Background())

// Ending ends pins and collections.
func Ending() { endNow() }

// guarded is a repo whose blocks have a guard.
type guarded struct {
	repo.Repo
	*state
}

// state is what belongs to one open repo.
type state struct {
	guard   *gc.Guard
	holders *holders.Repo
	stall   time.Duration
	base    blockstore.Blockstore // below the guard
	life    context.Context       // ends when the node begins to close
	ds      publishing
	end     context.CancelFunc
	recorder
}

func (r guarded) Datastore() repo.Datastore { return r.ds }

// Unwrap is the repo without its guard.
func (r guarded) Unwrap() repo.Repo { return r.Repo }

func stateOf(r repo.Repo) (*state, error) {
	g, ok := r.(guarded)
	if !ok {
		return nil, errors.New("the repo has no guard: this is a fault of ipfs-aws, please report it")
	}
	return g.state, nil
}

// Repo gives a repo its guard. It must be the outermost decorator of the repo.
func Repo(base repo.Repo, lc fx.Lifecycle) (repo.Repo, error) {
	age, err := fromEnv(MinAgeEnv, DefaultMinAge)
	if err != nil {
		return nil, err
	}
	stall, err := fromEnv(StallEnv, DefaultStall)
	if err != nil {
		return nil, err
	}
	s := &state{stall: stall}
	s.life, s.end = context.WithCancel(context.Background())
	s.holders, err = holders.Open(base.Path(), func() ([]holders.Place, error) {
		return places(base, func() blockstore.Blockstore { return s.base })
	})
	if err != nil {
		return nil, err
	}
	g := gc.NewGuard(age, s.holders.Join)
	var log *touched.Log
	log, err = touched.Open(filepath.Join(base.Path(), "gc", "touched"), touched.Options{
		Slice: min(max(age/16, time.Second), 5*time.Minute),
		Floor: func() touched.Time {
			if log == nil {
				return 0 // while it opens
			}
			return g.Floor(log.Now())
		},
	})
	if err != nil {
		return nil, err
	}
	g.Use(log)
	lc.Append(fx.Hook{OnStop: func(context.Context) error { return log.Close() }})
	s.guard, s.ds = g, publishing{base.Datastore(), g, &s.recorder}
	return guarded{base, s}, nil
}

// publishing records roots of MFS, and tells the guard of each before.
type publishing struct {
	repo.Datastore
	guard    *gc.Guard
	recorder *recorder
}

// What kubo looks for in its datastore by type assertion.
var (
	_ datastore.CheckedDatastore    = publishing{}
	_ datastore.GCDatastore         = publishing{}
	_ datastore.PersistentDatastore = publishing{}
	_ datastore.ScrubbedDatastore   = publishing{}
)

func (d publishing) Put(ctx context.Context, k datastore.Key, value []byte) error {
	if k == node.FilesRootDatastoreKey {
		c, err := cid.Cast(value)
		if err != nil {
			return fmt.Errorf("record the root of MFS: %w", err)
		}
		return d.record(ctx, c)
	}
	return d.Datastore.Put(ctx, k, value)
}

func (d publishing) Check(ctx context.Context) error {
	if c, ok := d.Datastore.(datastore.CheckedDatastore); ok {
		return c.Check(ctx)
	}
	return nil
}

func (d publishing) Scrub(ctx context.Context) error {
	if s, ok := d.Datastore.(datastore.ScrubbedDatastore); ok {
		return s.Scrub(ctx)
	}
	return nil
}

func (d publishing) CollectGarbage(ctx context.Context) error {
	if g, ok := d.Datastore.(datastore.GCDatastore); ok {
		return g.CollectGarbage(ctx)
	}
	return nil
}

func (d publishing) DiskUsage(ctx context.Context) (uint64, error) {
	return datastore.DiskUsage(ctx, d.Datastore)
}

// Blocks puts the guard around the base blockstore of a repo that Repo has decorated.
func Blocks(base blockstore.Blockstore, r repo.Repo) (blockstore.Blockstore, error) {
	s, err := stateOf(r)
	if err != nil {
		return nil, err
	}
	cfg, err := r.Config()
	if err != nil {
		return nil, err
	}
	s.base = base
	return s.guard.Blocks(base, !cfg.Datastore.WriteThrough.WithDefault(config.DefaultWriteThrough)), nil
}

// Locks has pins be operations of the guard. What a filestore writes, which is not in the base blockstore, is touched here.
func Locks(r repo.Repo, base node.BaseBlocks, gcbs blockstore.GCBlockstore, fstore fileStore) (blockstore.GCLocker, blockstore.GCBlockstore, blockstore.Blockstore, error) {
	s, err := stateOf(r)
	if err != nil {
		return nil, nil, nil, err
	}
	locker := gc.Locker{Guard: s.guard}
	var blocks blockstore.Blockstore = base
	if fstore.Filestore != nil {
		blocks = s.guard.Blocks(gcbs, false)
	}
	out := blockstore.NewGCBlockstore(blocks, locker)
	return locker, out, out, nil
}

type fileStore struct {
	fx.In
	Filestore *filestore.Filestore `optional:"true"`
}

// Pinner has content fetched before it is pinned.
func Pinner(base pin.Pinner, r repo.Repo, dag format.DAGService, blocks blockstore.Blockstore, prov node.DHTProvider, lc fx.Lifecycle) (pin.Pinner, error) {
	s, err := stateOf(r)
	if err != nil {
		return nil, err
	}
	cfg, err := r.Config()
	if err != nil {
		return nil, err
	}
	o := pins.Options{
		DAG: dag, Local: merkledag.NewDAGService(blockservice.New(blocks, offline.Exchange(blocks))),
		Has: blocks.Has, Touch: s.guard.Touch, Stall: s.stall,
	}
	if config.MustParseProvideStrategy(cfg.Provide.Strategy.WithDefault(config.DefaultProvideStrategy))&config.ProvideStrategyPinned != 0 {
		o.Provider = prov
	}
	p := pins.New(base, o)
	stop := context.AfterFunc(ending, func() { s.end(); p.Stop() })
	lc.Append(fx.Hook{OnStop: func(context.Context) error { stop(); return nil }})
	// Before the pinner below is closed, which waits for what is under way; and before the datastore, which a collection must not
	// use afterwards.
	lc.Append(fx.Hook{OnStop: func(ctx context.Context) error {
		s.end()
		p.Stop()
		return s.guard.Idle(ctx)
	}})
	return p, nil
}

// rootsWithin bounds the wait for MFS to say what its root is. An operation that waits for a block from the network may hold MFS.
const rootsWithin = time.Minute

var errRootsLate = fmt.Errorf("MFS does not say what its root is within %s: an `ipfs files` command waits, maybe for a block that no peer has; end it and try again", rootsWithin)

// store is what there is to collect in a node.
func store(n *core.IpfsNode, s *state) gc.Store {
	st := gc.Store{Blocks: s.base, Pins: n.Pinning, Roots: func(ctx context.Context) ([]cid.Cid, error) { return roots(ctx, n) }}
	if n.Filestore != nil {
		st.Keys = func(ctx context.Context) (<-chan cid.Cid, func() error, error) {
			ch, err := n.Filestore.AllKeysChan(ctx)
			return ch, ctx.Err, err
		}
		st.Delete = func(ctx context.Context, c cid.Cid) error {
			err := n.Filestore.FileManager().DeleteBlock(ctx, c)
			if err != nil && !format.IsNotFound(err) && !errors.Is(err, datastore.ErrNotFound) {
				return err
			}
			return s.base.DeleteBlock(ctx, c)
		}
	}
	return st
}

// roots are the root of MFS that is recorded, the one that it has now, and those of FUSE mounts.
func roots(ctx context.Context, n *core.IpfsNode) ([]cid.Cid, error) {
	var all []cid.Cid
	recorded, err := n.Repo.Datastore().Get(ctx, node.FilesRootDatastoreKey)
	switch {
	case errors.Is(err, datastore.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("read the root of MFS: %w", err)
	default:
		c, err := cid.Cast(recorded)
		if err != nil {
			return nil, fmt.Errorf("read the root of MFS: %w", err)
		}
		all = append(all, c)
	}
	type answer struct {
		roots []cid.Cid
		err   error
	}
	ch := make(chan answer, 1)
	go func() { // it knows no context
		roots, err := corerepo.BestEffortRoots(n)
		ch <- answer{roots, err}
	}()
	select {
	case a := <-ch:
		if a.err != nil {
			return nil, fmt.Errorf("ask MFS for its root: %w", a.err)
		}
		return append(all, a.roots...), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(rootsWithin):
		return nil, errRootsLate
	}
}
