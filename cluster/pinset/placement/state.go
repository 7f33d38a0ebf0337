package placement

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/observations"
	"github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs/boxo/datastore/dshelp"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	logging "github.com/ipfs/go-log/v2"
	"go.opencensus.io/stats"
)

var logger = logging.Logger("cluster-aws")

// ErrChanged is the error of a placement for a pin whose record is another one by now, or
// gone.
var ErrChanged = errors.New("the pin was changed or removed meanwhile")

// State is a pinset with placements, in a datastore of go-ds-crdt. The records of pins are
// those of ipfs-cluster (package dsstate there). Reading is safe for concurrent use; one
// goroutine at a time may write. What was written counts from Commit on.
//
// upstream: pin-keys
type State struct {
	store ds.Batching
	batch ds.Batch
	total atomic.Int64 // pins, as ipfs-cluster counts them for its metric
}

// New returns the pinset in a datastore.
func New(ctx context.Context, store ds.Batching) (*State, error) {
	batch, err := store.Batch(ctx)
	if err != nil {
		return nil, err
	}
	return &State{store: store, batch: batch}, nil
}

// Has implements [state.ReadOnly].
func (s *State) Has(ctx context.Context, c api.Cid) (bool, error) {
	return s.store.Has(ctx, key(c))
}

// Get implements [state.ReadOnly].
func (s *State) Get(ctx context.Context, c api.Cid) (api.Pin, error) {
	pin, _, err := s.Read(ctx, c)
	return pin, err
}

// Read returns a pin and the version of its record, or [state.ErrNotFound].
func (s *State) Read(ctx context.Context, c api.Cid) (api.Pin, Version, error) {
	record, err := s.store.Get(ctx, key(c))
	if errors.Is(err, ds.ErrNotFound) {
		return api.Pin{}, "", state.ErrNotFound
	}
	if err != nil {
		return api.Pin{}, "", err
	}
	return s.read(ctx, c, record)
}

func (s *State) read(ctx context.Context, c api.Cid, record []byte) (api.Pin, Version, error) {
	placed, err := s.store.Get(ctx, Of(key(c)))
	if err != nil && !errors.Is(err, ds.ErrNotFound) {
		return api.Pin{}, "", err
	}
	pin, v, err := Read(record, placed)
	if err != nil {
		return api.Pin{}, "", fmt.Errorf("read the pin %s: %w", c, err)
	}
	pin.Cid = c
	return pin, v, nil
}

// List implements [state.ReadOnly]. A pin that cannot be read is left out, and logged.
func (s *State) List(ctx context.Context, out chan<- api.Pin) error {
	defer close(out)
	found, err := s.store.Query(ctx, query.Query{})
	if err != nil {
		return err
	}
	defer found.Close()
	var total int64
	for r := range found.Next() {
		if r.Error != nil {
			return fmt.Errorf("list the pinset: %w", r.Error)
		}
		k := ds.RawKey(r.Key)
		if _, placed := Split(k); placed {
			continue
		}
		pin, err := s.listed(ctx, k, r.Value)
		if err != nil {
			logger.Errorf("the pin %s in the pinset is left out of the list: %s", k, err)
			continue
		}
		select {
		case out <- pin:
			total++
		case <-ctx.Done():
			return fmt.Errorf("list the pinset: %w", context.Cause(ctx))
		}
	}
	s.total.Store(total)
	stats.Record(ctx, observations.Pins.M(total))
	return nil
}

func (s *State) listed(ctx context.Context, k ds.Key, record []byte) (api.Pin, error) {
	raw, err := dshelp.BinaryFromDsKey(k)
	if err != nil {
		return api.Pin{}, fmt.Errorf("its key has no CID: %w", err)
	}
	c, err := api.CastCid(raw)
	if err != nil {
		return api.Pin{}, fmt.Errorf("its key has no CID: %w", err)
	}
	pin, _, err := s.read(ctx, c, record)
	return pin, err
}

// Add adds or replaces a pin. A placement that is there is not touched: it is for another
// record, unless the pin is the very same one. If it were removed in the same change, the peers
// would apply the removal first and act on where the former record says that the pin is.
func (s *State) Add(ctx context.Context, pin api.Pin) error {
	record, err := pin.ProtoMarshal()
	if err != nil {
		return fmt.Errorf("write the pin %s: %w", pin.Cid, err)
	}
	had, err := s.Has(ctx, pin.Cid)
	if err != nil {
		return err
	}
	if err := s.batch.Put(ctx, key(pin.Cid), record); err != nil {
		return err
	}
	if !had {
		stats.Record(ctx, observations.Pins.M(s.total.Add(1)))
	}
	return nil
}

// Rm removes a pin and its placement. A pin that is not there is no error.
func (s *State) Rm(ctx context.Context, c api.Cid) error {
	for _, k := range []ds.Key{key(c), Of(key(c))} {
		if err := s.batch.Delete(ctx, k); err != nil {
			return err
		}
	}
	stats.Record(ctx, observations.Pins.M(s.total.Add(-1)))
	return nil
}

// Commit makes what was written since the last one a change of the pinset.
func (s *State) Commit(ctx context.Context) error { return s.batch.Commit(ctx) }

// Place says where the copies of a pin are, and where it belongs ([HomeKey]). The rest of the
// pin is not looked at. If its record is not the one of the version any more, the error is
// [ErrChanged].
func (s *State) Place(ctx context.Context, pin api.Pin, v Version) error {
	record, err := s.store.Get(ctx, key(pin.Cid))
	if err != nil && !errors.Is(err, ds.ErrNotFound) {
		return err
	}
	if err != nil || versionOf(record) != v {
		return ErrChanged
	}
	value, err := json.Marshal(of(pin, v))
	if err != nil {
		return err
	}
	return s.batch.Put(ctx, Of(key(pin.Cid)), value)
}
