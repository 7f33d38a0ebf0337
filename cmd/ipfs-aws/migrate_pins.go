package main

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	pin "github.com/ipfs/boxo/pinning/pinner"
	"github.com/ipfs/boxo/pinning/pinner/dspinner"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/ipfs/kubo/core/node"

	"github.com/ipfs-aws/ipfs-aws/datastore/cars"
)

// pinset is what a repo wants to keep.
type pinset struct {
	pinner pin.Pinner
	dag    ipld.DAGService
	mfs    cid.Cid    // undefined if there is none
	frozen []cars.Pin // instead of what the pinner has; nil: not frozen
}

// freeze returns what is pinned now. It takes some 100 bytes a pin.
func (p *pinset) freeze(ctx context.Context) (*pinset, error) {
	out := &pinset{frozen: []cars.Pin{}}
	for one, err := range p.all(ctx, true) {
		if err != nil {
			return nil, err
		}
		out.frozen = append(out.frozen, one)
	}
	return out, nil
}

// openPins reads the pins in the root datastore of a repo that is not open otherwise. blocks may be nil if nothing is pinned anew.
//
// upstream: pins-at-rest
func openPins(ctx context.Context, root ds.Batching, blocks ds.Batching) (*pinset, error) {
	if blocks == nil {
		blocks = ds.NewMapDatastore()
	}
	store := blockstore.NewBlockstore(blocks, blockstore.NoPrefix(), blockstore.WriteThrough(true))
	dag := merkledag.NewDAGService(blockservice.New(store, offline.Exchange(store)))
	pinner, err := dspinner.New(ctx, root, dag)
	if err != nil {
		return nil, fmt.Errorf("read the pins: %w", err)
	}
	p := &pinset{pinner: pinner, dag: dag}
	b, err := root.Get(ctx, node.FilesRootDatastoreKey)
	switch {
	case err == nil:
		if p.mfs, err = cid.Cast(b); err != nil {
			return nil, fmt.Errorf("read the root of MFS: %w", err)
		}
	case !errors.Is(err, ds.ErrNotFound):
		return nil, fmt.Errorf("read the root of MFS: %w", err)
	}
	return p, nil
}

// all yields pins, and the root of MFS.
func (p *pinset) all(ctx context.Context, names bool) iter.Seq2[cars.Pin, error] {
	return func(yield func(cars.Pin, error) bool) {
		if p.frozen != nil {
			for _, one := range p.frozen {
				if !yield(one, nil) {
					return
				}
			}
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends the lists, too
		for _, kind := range []struct {
			name string
			list func(context.Context, bool) <-chan pin.StreamedPin
		}{{cars.Recursive, p.pinner.RecursiveKeys}, {cars.Direct, p.pinner.DirectKeys}} {
			for one := range kind.list(ctx, names) {
				if one.Err != nil {
					yield(cars.Pin{}, one.Err)
					return
				}
				if !yield(cars.Pin{CID: one.Pin.Key, Kind: kind.name, Name: one.Pin.Name}, nil) {
					return
				}
			}
		}
		if err := ctx.Err(); err != nil {
			yield(cars.Pin{}, err)
			return
		}
		if p.mfs.Defined() {
			yield(cars.Pin{CID: p.mfs, Kind: cars.MFSRoot}, nil)
		}
	}
}

func (p *pinset) roots(ctx context.Context) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		for one, err := range p.all(ctx, false) {
			if !yield(one.CID, err) {
				return
			}
		}
	}
}

// restore pins what a backup says. A pin whose blocks are not all there is not made: it is told, and the others go on.
func (p *pinset) restore(ctx context.Context, pins iter.Seq2[cars.Pin, error], told func(cars.Pin, error)) (made int, mfs cid.Cid, err error) {
	for one, err := range pins {
		if err != nil {
			return made, mfs, err
		}
		if one.Kind == cars.MFSRoot {
			mfs = one.CID
			continue
		}
		n, err := p.dag.Get(ctx, one.CID)
		if err == nil {
			err = p.pinner.Pin(ctx, n, one.Kind == cars.Recursive, one.Name)
		}
		if err != nil && ctx.Err() != nil {
			return made, mfs, ctx.Err()
		}
		if err != nil {
			told(one, err)
			continue
		}
		made++
	}
	if err := p.pinner.Flush(ctx); err != nil {
		return made, mfs, fmt.Errorf("write the pins: %w", err)
	}
	return made, mfs, nil
}
