package frontier

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/datastore/dshelp"
	dag "github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/store"
)

// Change names a change: the multihash of its block, in the store's form.
type Change string

// Named returns the name of a change.
func Named(c cid.Cid) Change {
	return Change(strings.TrimPrefix(dshelp.MultihashToDsKey(c.Hash()).String(), "/"))
}

// Cid is the CID of the change's block, as the consensus announces it.
func (c Change) Cid() (cid.Cid, error) {
	id, err := dshelp.DsKeyToCidV1(ds.NewKey(string(c)), cid.DagProtobuf)
	if err != nil {
		return cid.Undef, fmt.Errorf("%q names no change: %w", string(c), err)
	}
	return id, nil
}

// Missing is a change that is known of and not applied.
type Missing struct {
	Change Change
	// Since is when it became known.
	Since time.Time
	// After are the changes that link to it, as far as they came by.
	After []Change
	// Tops are the newest changes that it was reached from. They have not become
	// heads yet if they are applied: they do when everything before them is.
	Tops []Change
}

// Store is the consensus's store. It is safe for concurrent use.
type Store struct {
	store.Datastore
	blocks  string // prefix of the keys of blocks
	marks   string // prefix of the keys of marks
	applied atomic.Uint64

	mu      sync.Mutex
	missing map[Change]*Missing
}

// Wrap decorates the store of a consensus that keeps its state under the given
// namespace, and of whose changes the given ones are missing.
//
// upstream: crdt-layout
func Wrap(inner store.Datastore, namespace string, missing []string) *Store {
	marks := ds.NewKey(namespace).ChildString("b").String() + "/"
	s := &Store{Datastore: inner, marks: marks, blocks: marks + "blocks/", missing: map[Change]*Missing{}}
	for _, name := range missing {
		s.missing[Change(name)] = &Missing{Change: Change(name), Since: time.Now()}
	}
	return s
}

// Missing returns what is missing, the oldest first.
func (s *Store) Missing() []Missing {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Missing
	for _, m := range s.missing {
		c := *m
		c.After, c.Tops = slices.Clone(m.After), slices.Clone(m.Tops)
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Missing) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(string(a.Change), string(b.Change))
	})
	return all
}

// Applied counts the changes applied since the start.
func (s *Store) Applied() uint64 { return s.applied.Load() }

// IsApplied reports whether a change is applied here.
func (s *Store) IsApplied(ctx context.Context, c Change) (bool, error) {
	return s.Has(ctx, ds.RawKey(s.marks+string(c)))
}

// Holds reports whether the change's block is here.
func (s *Store) Holds(ctx context.Context, c Change) (bool, error) {
	return s.Has(ctx, ds.RawKey(s.blocks+string(c)))
}

// Reopen makes a change count as not applied, so that the consensus takes it
// up again when it is announced, and everything before it that is missing.
// Applying a change twice changes nothing. After a crash the repair at the next
// start takes it up.
func (s *Store) Reopen(ctx context.Context, c Change) error {
	s.expect(c, "")
	if err := s.Datastore.Delete(ctx, ds.RawKey(s.marks+string(c))); err != nil {
		return fmt.Errorf("take change %s up again: %w", c, err)
	}
	return nil
}

// Put implements [ds.Datastore].
func (s *Store) Put(ctx context.Context, key ds.Key, value []byte) error {
	if err := s.Datastore.Put(ctx, key, value); err != nil {
		return err
	}
	return s.saw(ctx, key, value)
}

// Batch implements [ds.Batching].
func (s *Store) Batch(ctx context.Context) (ds.Batch, error) {
	inner, err := s.Datastore.Batch(ctx)
	if err != nil {
		return nil, err
	}
	return &batch{Batch: inner, store: s}, nil
}

type batch struct {
	ds.Batch
	store *Store
	puts  []put // of blocks and marks
}

type put struct {
	key   ds.Key
	value []byte
}

func (b *batch) Put(ctx context.Context, key ds.Key, value []byte) error {
	if err := b.Batch.Put(ctx, key, value); err != nil {
		return err
	}
	if strings.HasPrefix(key.String(), b.store.marks) {
		b.puts = append(b.puts, put{key, value})
	}
	return nil
}

func (b *batch) Commit(ctx context.Context) error {
	if err := b.Batch.Commit(ctx); err != nil {
		return err
	}
	puts := b.puts
	b.puts = nil
	for _, p := range puts {
		if err := b.store.saw(ctx, p.key, p.value); err != nil {
			return err
		}
	}
	return nil
}

// saw takes account of what was written.
func (s *Store) saw(ctx context.Context, key ds.Key, value []byte) error {
	name := key.String()
	if block, ok := strings.CutPrefix(name, s.blocks); ok {
		return s.sawBlock(ctx, Change(block), value)
	}
	if mark, ok := strings.CutPrefix(name, s.marks); ok && !strings.Contains(mark, "/") {
		s.applied.Add(1)
		s.mu.Lock()
		delete(s.missing, Change(mark))
		s.mu.Unlock()
	}
	return nil
}

func (s *Store) sawBlock(ctx context.Context, c Change, value []byte) error {
	node, err := dag.DecodeProtobuf(value)
	if err != nil {
		return nil // not a change; the consensus says so if it should be one
	}
	if err := s.expectUnlessApplied(ctx, c, ""); err != nil {
		return err
	}
	for _, l := range node.Links() {
		if err := s.expectUnlessApplied(ctx, Named(l.Cid), c); err != nil {
			return err
		}
	}
	return nil
}

// expectUnlessApplied first takes the change down and then asks whether it is
// applied, so that a mark set in between is not overlooked.
func (s *Store) expectUnlessApplied(ctx context.Context, c, after Change) error {
	s.expect(c, after)
	done, err := s.IsApplied(ctx, c)
	if err != nil {
		return fmt.Errorf("look whether change %s is applied: %w", c, err)
	}
	if done {
		s.mu.Lock()
		delete(s.missing, c)
		s.mu.Unlock()
	}
	return nil
}

func (s *Store) expect(c, after Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.missing[c]
	if m == nil {
		m = &Missing{Change: c, Since: time.Now()}
		s.missing[c] = m
	}
	if after == "" {
		return
	}
	m.After = with(m.After, after)
	tops := []Change{after}
	if above := s.missing[after]; above != nil && len(above.Tops) > 0 {
		tops = above.Tops
	}
	m.Tops = with(m.Tops, tops...)
}

func with(set []Change, more ...Change) []Change {
	for _, c := range more {
		if !slices.Contains(set, c) {
			set = append(set, c)
		}
	}
	return set
}
