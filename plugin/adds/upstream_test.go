package adds

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/files"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/coreapi"
	"github.com/ipfs/kubo/core/node"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
)

// watched notes for each write whether it came with a session.
type watched struct {
	blockstore.Blockstore
	mu            sync.Mutex
	with, without []cid.Cid
}

func (w *watched) saw(ctx context.Context, many ...blocks.Block) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range many {
		if sessionOf(ctx) != nil {
			w.with = append(w.with, b.Cid())
		} else {
			w.without = append(w.without, b.Cid())
		}
	}
}

func (w *watched) Put(ctx context.Context, b blocks.Block) error {
	w.saw(ctx, b)
	return w.Blockstore.Put(ctx, b)
}

func (w *watched) PutMany(ctx context.Context, many []blocks.Block) error {
	w.saw(ctx, many...)
	return w.Blockstore.PutMany(ctx, many)
}

// A session is found by its writes, because kubo's adder hands the context of the
// request down to the base blockstore, and because that is the one that a plugin
// decorates. Without either, adds work and are slow.
func TestKubosAdderKeepsTheContextOfTheRequest(t *testing.T) {
	w := &watched{}
	core.RegisterFXOptionFunc(func(info core.FXNodeInfo) ([]fx.Option, error) {
		return append(info.FXOptions, fx.Decorate(func(base node.BaseBlocks) node.BaseBlocks {
			w.Blockstore = base
			return w
		})), nil
	})
	n, err := core.NewNode(t.Context(), &core.BuildCfg{})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	api, err := coreapi.NewCoreAPI(n)
	require.NoError(t, err)
	w.without = nil // what a node writes at its start
	ctx, s := begin(t.Context())
	root, err := api.Unixfs().Add(ctx, files.NewMapDirectory(map[string]files.Node{
		"large": files.NewBytesFile(bytes.Repeat([]byte{1}, 1<<20)), "small": files.NewBytesFile([]byte{2}),
	}))
	require.NoError(t, err)
	require.NoError(t, s.end())
	require.NotEmpty(t, w.with)
	require.Equal(t, []cid.Cid{root.RootCid()}, w.without, "the root is written once more at the end, and waited for")
}
