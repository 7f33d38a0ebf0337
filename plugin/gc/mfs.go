package gc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/filestore"
	"github.com/ipfs/boxo/mfs"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	cmds "github.com/ipfs/go-ipfs-cmds"
	"github.com/ipfs/kubo/core/node"
	"github.com/ipfs/kubo/repo"
)

// recorder has the root of MFS that is recorded never become an older one. When two commands change
// MFS at once, boxo may hand over the two roots in the wrong order, or drop the later one: a kill
// then loses a change that was acknowledged. So the root is read again at the moment when it is
// recorded, one recording at a time.
type recorder struct {
	mu   sync.Mutex
	root *mfs.Root // nil while the node is built
}

// MFS has the recorder of a repo know its MFS.
func MFS(root *mfs.Root, r repo.Repo) (*mfs.Root, error) {
	s, err := stateOf(r)
	if err != nil {
		return nil, err
	}
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	s.recorder.root = root
	return root, nil
}

// newest is the root that MFS has now, or proposed as long as there is no MFS.
func (r *recorder) newest(ctx context.Context, proposed cid.Cid) (cid.Cid, error) {
	if r.root == nil {
		return proposed, nil
	}
	type answer struct {
		root cid.Cid
		err  error
	}
	ch := make(chan answer, 1)
	go func() { // it knows no context
		nd, err := r.root.GetDirectory().GetNode()
		if err != nil {
			ch <- answer{err: err}
			return
		}
		ch <- answer{root: nd.Cid()}
	}()
	select {
	case a := <-ch:
		if a.err != nil {
			return cid.Undef, fmt.Errorf("ask MFS for its root: %w", a.err)
		}
		return a.root, nil
	case <-ctx.Done():
		return cid.Undef, ctx.Err()
	case <-time.After(rootsWithin):
		return cid.Undef, errRootsLate
	}
}

// record writes down the newest root of MFS, and returns when it is durable.
func (d publishing) record(ctx context.Context, proposed cid.Cid) error {
	r := d.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.newest(ctx, proposed)
	if err != nil {
		return err
	}
	for _, prefix := range []datastore.Key{blockstore.BlockPrefix, filestore.FilestorePrefix} {
		if err := d.Datastore.Sync(ctx, prefix); err != nil {
			return err
		}
	}
	d.guard.Published(c)
	if err := d.Datastore.Put(ctx, node.FilesRootDatastoreKey, c.Bytes()); err != nil {
		return err
	}
	return d.Datastore.Sync(ctx, node.FilesRootDatastoreKey)
}

// recordFirst has a command that changes MFS answer when a root with its change is recorded.
func recordFirst(c *cmds.Command) {
	run := c.Run
	c.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		if flush, ok := req.Options["flush"].(bool); ok && !flush {
			return run(req, res, env)
		}
		n, s, err := nodeOf(env)
		if err != nil {
			return err
		}
		recorded := &recording{ResponseEmitter: res, record: sync.OnceValue(func() error {
			root, err := n.FilesRoot.GetDirectory().GetNode()
			if err == nil {
				err = s.ds.record(req.Context, root.Cid())
			}
			if err != nil {
				return fmt.Errorf("record the root of MFS: %w", err)
			}
			return nil
		})}
		if err := run(req, recorded, env); err != nil {
			return err
		}
		return recorded.record()
	}
}

// recording records before the first thing that is emitted.
type recording struct {
	cmds.ResponseEmitter
	record func() error
}

func (e *recording) Emit(v any) error {
	if err := e.record(); err != nil {
		return err
	}
	return e.ResponseEmitter.Emit(v)
}
