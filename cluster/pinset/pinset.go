package pinset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	upstream "github.com/ipfs-cluster/ipfs-cluster/consensus/crdt"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	dag "github.com/ipfs/boxo/ipld/merkledag"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"
	crdt "github.com/ipfs/go-ds-crdt"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/placement"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/store"
)

// batchPins is how many pins an import commits at a time. A pin is some 200
// bytes in the delta, and a delta should stay well under the 1 MiB that peers
// accept as one block: 200 KiB.
const batchPins = 1000

// Pinset is the open pinset of a folder.
type Pinset struct {
	store *store.Store
	state *placement.State
	cfg   *upstream.Config
}

// Open opens the pinset in the given store folder, which must exist unless
// create is set. Close it.
func Open(path string, create bool) (*Pinset, error) {
	if _, err := os.Stat(path); err != nil && !(create && errors.Is(err, os.ErrNotExist)) {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("there is no pinset in %s: name the folder of a peer that has run in IPFS_CLUSTER_PATH: %w", path, err)
		}
		return nil, fmt.Errorf("open the pinset: %w", err)
	}
	st, err := store.Open(path, store.Options{})
	if err != nil {
		return nil, err
	}
	cfg := &upstream.Config{}
	if err := cfg.Default(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the pinset: %w", err), st.Close())
	}
	pins, err := offlineState(cfg, st)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the pinset in %s: %w", path, err), st.Close())
	}
	return &Pinset{store: st, state: pins, cfg: cfg}, nil
}

// offlineState is the pinset of a peer that talks to no other.
func offlineState(cfg *upstream.Config, st *store.Store) (*placement.State, error) {
	at := ds.NewKey(cfg.DatastoreNamespace)
	blocks := blockstore.NewBlockstore(namespace.Wrap(st, at.ChildString(upstream.BlocksNs)))
	nodes := dag.NewDAGService(blockservice.New(blocks, offline.Exchange(blocks)))
	c, err := crdt.New(st, at, nodes, nil, crdt.DefaultOptions())
	if err != nil {
		return nil, err
	}
	return placement.New(context.Background(), c)
}

// Each calls f for every pin, in no particular order, until f fails.
func (p *Pinset) Each(ctx context.Context, f func(api.Pin) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := make(chan api.Pin, 1024)
	listed := make(chan error, 1)
	go func() { listed <- p.state.List(ctx, out) }()
	var failed error
	for pin := range out {
		if failed != nil {
			continue // List ends when its output is drained
		}
		if failed = f(pin); failed != nil {
			cancel()
		}
	}
	err := <-listed
	if failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("list the pinset: %w", err)
	}
	return nil
}

// Export writes every pin as a line of JSON and returns how many there were.
func (p *Pinset) Export(ctx context.Context, w io.Writer) (int, error) {
	n := 0
	enc := json.NewEncoder(w)
	err := p.Each(ctx, func(pin api.Pin) error {
		if err := enc.Encode(pin); err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
		n++
		return nil
	})
	return n, err
}

// Read reads an export whole, so that a broken one changes nothing.
func Read(r io.Reader) ([]api.Pin, error) {
	var pins []api.Pin
	dec := json.NewDecoder(r)
	for {
		var pin api.Pin
		err := dec.Decode(&pin)
		if errors.Is(err, io.EOF) {
			return pins, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the import, pin %d: %w", len(pins)+1, err)
		}
		if !pin.Cid.Defined() {
			return nil, fmt.Errorf("read the import, pin %d: it has no cid; the format is that of \"state export\"", len(pins)+1)
		}
		pins = append(pins, pin)
	}
}

// Add adds the pins to the pinset. A pin that is there already is replaced.
func (p *Pinset) Add(ctx context.Context, pins []api.Pin) error {
	for i, pin := range pins {
		if err := p.state.Add(ctx, pin); err != nil {
			return fmt.Errorf("import pin %s: %w", pin.Cid, err)
		}
		if (i+1)%batchPins == 0 || i+1 == len(pins) {
			if err := p.state.Commit(ctx); err != nil {
				return fmt.Errorf("import pins, up to %s: %w", pin.Cid, err)
			}
		}
	}
	return nil
}

// Clear removes the pinset and everything else that the consensus keeps from
// the store, and returns how many pins that were. The Pinset must be closed
// after it and opened again for further use.
func (p *Pinset) Clear(ctx context.Context) (int, error) {
	n := 0
	if err := p.Each(ctx, func(api.Pin) error { n++; return nil }); err != nil {
		return 0, err
	}
	if err := upstream.Clean(ctx, p.cfg, p.store); err != nil {
		return 0, fmt.Errorf("remove the pinset: %w", err)
	}
	return n, nil
}

// Close closes the store.
func (p *Pinset) Close() error { return p.store.Close() }
