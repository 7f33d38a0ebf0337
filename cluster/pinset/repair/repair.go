package repair

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ipfs/boxo/datastore/dshelp"
	dag "github.com/ipfs/boxo/ipld/merkledag"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/ipfs/go-ds-crdt/pb"
	"google.golang.org/protobuf/proto"
)

// formatVersion is the layout that this package knows, as go-ds-crdt stores it.
//
// upstream: crdt-layout
const formatVersion = 1 + 1

// Report says what a run found and changed.
type Report struct {
	// Blocks is how many changes the store holds.
	Blocks int
	// Unprocessed is how many of them had not been applied.
	Unprocessed int
	// Absent is how many blocks others link to that the store does not hold.
	Absent int
	// HeadsAdded and HeadsRemoved count corrections of the heads.
	HeadsAdded, HeadsRemoved int
	// Missing names what is not processed, absent or not, by the last part of
	// the blocks' keys.
	Missing []string
}

// Sound reports whether there was nothing to repair.
func (r Report) Sound() bool {
	return r.Unprocessed == 0 && r.Absent == 0 && r.HeadsAdded == 0 && r.HeadsRemoved == 0
}

// block is what the walk keeps of a block: some 100 bytes with its map entry,
// 10 MB for 100,000 changes, and only while Run runs.
type block struct {
	height    uint64
	present   bool
	processed bool
	linked    bool
}

// Run checks the consensus state under the given namespace (ipfs-cluster's
// default is "/c") and repairs it. The corrections are one atomic batch, so a
// crash leaves the state as it was or repaired. The consensus must not be
// running.
func Run(ctx context.Context, store ds.Batching, namespace string) (Report, error) {
	r := &run{
		store: store, ns: ds.NewKey(namespace),
		blocks: map[string]*block{}, heads: map[string]bool{},
	}
	known, err := r.knownFormat(ctx)
	if err != nil || !known {
		return Report{}, err
	}
	for _, step := range []func(context.Context) error{r.readBlocks, r.readProcessed, r.readHeads} {
		if err := step(ctx); err != nil {
			return Report{}, fmt.Errorf("check the consensus state: %w", err)
		}
	}
	report, err := r.correct(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("repair the consensus state: %w", err)
	}
	return report, nil
}

type run struct {
	store  ds.Batching
	ns     ds.Key
	blocks map[string]*block // by the key's last part, the multihash in base32
	heads  map[string]bool
}

func (r *run) knownFormat(ctx context.Context) (bool, error) {
	raw, err := r.store.Get(ctx, r.ns.ChildString("crdt_version"))
	if errors.Is(err, ds.ErrNotFound) {
		return false, nil // a new store, or one from before versions
	}
	if err != nil {
		return false, fmt.Errorf("read the consensus state's format: %w", err)
	}
	v, n := binary.Uvarint(raw)
	return n > 0 && v == formatVersion, nil
}

// each calls f for every entry directly under a key.
func (r *run) each(ctx context.Context, under ds.Key, keysOnly bool, f func(name string, value []byte) error) error {
	res, err := r.store.Query(ctx, query.Query{Prefix: under.String(), KeysOnly: keysOnly})
	if err != nil {
		return fmt.Errorf("list %s: %w", under, err)
	}
	defer res.Close()
	for e := range res.Next() {
		if e.Error != nil {
			return fmt.Errorf("list %s: %w", under, e.Error)
		}
		key := ds.RawKey(e.Key)
		if !key.Parent().Equal(under) {
			continue
		}
		if err := f(key.BaseNamespace(), e.Value); err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
	}
	return nil
}

func (r *run) at(name string) *block {
	b := r.blocks[name]
	if b == nil {
		b = &block{}
		r.blocks[name] = b
	}
	return b
}

func (r *run) readBlocks(ctx context.Context) error {
	return r.each(ctx, r.ns.ChildString("b/blocks"), false, func(name string, value []byte) error {
		node, err := dag.DecodeProtobuf(value)
		if err != nil {
			return err
		}
		var delta pb.Delta
		if err := proto.Unmarshal(node.Data(), &delta); err != nil {
			return err
		}
		b := r.at(name)
		b.present, b.height = true, delta.GetPriority()
		for _, l := range node.Links() {
			r.at(dshelp.MultihashToDsKey(l.Cid.Hash()).BaseNamespace()).linked = true
		}
		return nil
	})
}

func (r *run) readProcessed(ctx context.Context) error {
	return r.each(ctx, r.ns.ChildString("b"), true, func(name string, _ []byte) error {
		if b := r.blocks[name]; b != nil {
			b.processed = true
		}
		return nil
	})
}

func (r *run) readHeads(ctx context.Context) error {
	return r.each(ctx, r.ns.ChildString("h"), true, func(name string, _ []byte) error {
		r.heads[name] = true
		return nil
	})
}

func (r *run) correct(ctx context.Context) (Report, error) {
	var rep Report
	batch, err := r.store.Batch(ctx)
	if err != nil {
		return rep, err
	}
	heads := r.ns.ChildString("h")
	for name, b := range r.blocks {
		tip := b.present && !b.linked
		switch {
		case !b.present:
			rep.Absent++
			rep.Missing = append(rep.Missing, name)
		default:
			rep.Blocks++
			if !b.processed {
				rep.Unprocessed++
				rep.Missing = append(rep.Missing, name)
			}
		}
		switch {
		case tip && !r.heads[name]:
			rep.HeadsAdded++
			err = batch.Put(ctx, heads.ChildString(name), binary.AppendUvarint(nil, b.height))
		case b.present && !tip && r.heads[name]:
			// What links to it is here, so a tip that reaches it is a head.
			rep.HeadsRemoved++
			err = batch.Delete(ctx, heads.ChildString(name))
		}
		if err != nil {
			return rep, err
		}
	}
	for name := range r.heads {
		if r.blocks[name] == nil { // nothing but the head says that it exists
			rep.Absent++
			rep.Missing = append(rep.Missing, name)
		}
	}
	if rep.Sound() {
		return rep, nil
	}
	if len(rep.Missing) > 0 {
		if err := batch.Put(ctx, r.ns.ChildString("d"), nil); err != nil {
			return rep, err
		}
	}
	return rep, batch.Commit(ctx)
}
