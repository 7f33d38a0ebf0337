package pinning

import (
	"context"
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// pinnedPrefix is where the store keeps which CIDs the cluster has pinned on the node.
var pinnedPrefix = ds.NewKey("/cluster-aws/pinned")

// pinned knows what the cluster has pinned on the node, across restarts, and what is to be
// unpinned. A record is durable before the node is asked to pin, and is removed when a
// comparison finds that it is of no use; so the node has no pin of the cluster's without a
// record. A record without a pin says nothing. It is safe for concurrent use.
type pinned struct {
	store ds.Datastore // durable when it returns
	lazy  ds.Datastore // the same, durable some time later

	mu      sync.Mutex
	leaving map[cid.Cid]struct{} // to be unpinned
}

func newPinned(store, lazy ds.Datastore) *pinned {
	return &pinned{store: store, lazy: lazy, leaving: map[cid.Cid]struct{}{}}
}

func pinnedKey(id cid.Cid) ds.Key { return pinnedPrefix.ChildString(id.String()) }

// has reports whether the cluster has pinned a CID.
func (p *pinned) has(ctx context.Context, id cid.Cid) (bool, error) {
	return p.store.Has(ctx, pinnedKey(id))
}

// note writes the record of a CID.
func (p *pinned) note(ctx context.Context, id cid.Cid) error {
	had, err := p.has(ctx, id)
	if err == nil && !had {
		err = p.store.Put(ctx, pinnedKey(id), nil)
	}
	if err != nil {
		return fmt.Errorf("note that the cluster pins %s: %w", id, err)
	}
	return nil
}

// adopt writes a record that is durable some time later.
func (p *pinned) adopt(ctx context.Context, id cid.Cid) error {
	return p.lazy.Put(ctx, pinnedKey(id), nil)
}

// forget removes the record of a CID that the node does not pin.
func (p *pinned) forget(ctx context.Context, id cid.Cid) {
	had, err := p.has(ctx, id)
	if err == nil && had {
		err = p.lazy.Delete(ctx, pinnedKey(id))
	}
	if err != nil && ctx.Err() == nil {
		logger.Warnf("that %s is not pinned was not noted, the next comparison does it: %s", id, err)
	}
}

// each calls f for every CID that has a record.
func (p *pinned) each(ctx context.Context, f func(cid.Cid) error) error {
	found, err := p.store.Query(ctx, query.Query{Prefix: pinnedPrefix.String(), KeysOnly: true})
	if err != nil {
		return err
	}
	defer found.Close()
	for r := range found.Next() {
		if r.Error != nil {
			return r.Error
		}
		id, err := cid.Decode(ds.RawKey(r.Key).BaseNamespace())
		if err != nil {
			continue // none of ours
		}
		if err := f(id); err != nil {
			return err
		}
	}
	return nil
}

// leaves says that a CID is to be unpinned; stays that it is not, or that it was.
func (p *pinned) leaves(id cid.Cid) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving[id] = struct{}{}
}

func (p *pinned) stays(id cid.Cid) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.leaving, id)
}

// waiting is how many CIDs wait to be unpinned.
func (p *pinned) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.leaving)
}

// left returns up to max CIDs that wait to be unpinned.
func (p *pinned) left(max int) []cid.Cid {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []cid.Cid
	for id := range p.leaving {
		if len(out) == max {
			break
		}
		out = append(out, id)
	}
	return out
}
