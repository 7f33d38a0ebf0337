package blocks

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange"
	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	format "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"
)

// sick cannot read some blocks.
type sick struct {
	blockstore.Blockstore
	broken map[string]error
}

func (s sick) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if err := s.broken[string(c.Hash())]; err != nil {
		return nil, err
	}
	return s.Blockstore.Get(ctx, c)
}

// patient is a network that has nothing, and waits for it.
type patient struct{ asked []cid.Cid }

func (p *patient) NewSession(context.Context) exchange.Fetcher { return p }
func (p *patient) GetBlock(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	p.asked = append(p.asked, c)
	<-ctx.Done()
	return nil, ctx.Err()
}
func (p *patient) GetBlocks(ctx context.Context, cs []cid.Cid) (<-chan blocks.Block, error) {
	p.asked = append(p.asked, cs...)
	out := make(chan blocks.Block)
	context.AfterFunc(ctx, func() { close(out) })
	return out, nil
}
func (*patient) NotifyNewBlocks(context.Context, ...blocks.Block) error { return nil }
func (*patient) Close() error                                           { return nil }

func TestWhatTheStoreCannotReadIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, net := newUnread(), &patient{}
		s := sick{blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore())), map[string]error{}}
		service := blockservice.New(unreadBlocks{s, u}, u.decorateExchange(net))
		dag := merkledag.NewDAGService(service)
		var ids []cid.Cid
		for i := range byte(4) {
			n := merkledag.NewRawNode([]byte{i})
			require.NoError(t, dag.Add(t.Context(), n))
			ids = append(ids, n.Cid())
		}
		s.broken[string(ids[2].Hash())] = errors.New("503 Slow Down")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()

		// All at once, with and without a session: what can be read comes, and then an error.
		for _, getter := range []format.NodeGetter{dag, merkledag.NewSession(ctx, dag)} {
			began, got := time.Now(), 0
			var failed error
			for o := range getter.GetMany(ctx, ids) {
				if o.Err != nil {
					failed = o.Err
					continue
				}
				got++
			}
			require.Error(t, failed)
			require.False(t, format.IsNotFound(failed))
			require.Equal(t, 3, got)
			require.Zero(t, time.Since(began))
			_, err := getter.Get(ctx, ids[2])
			require.ErrorIs(t, err, s.broken[string(ids[2].Hash())])
		}
		require.Empty(t, net.asked)

		// What is not here at all is asked for, and so is the block when it was read since.
		_, err := dag.Get(ctx, merkledag.NewRawNode([]byte("elsewhere")).Cid())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Len(t, net.asked, 1)
		delete(s.broken, string(ids[2].Hash()))
		_, err = dag.Get(t.Context(), ids[2])
		require.NoError(t, err)
	})
}

func TestTheLogNamesABlockOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnread()
		c := merkledag.NewRawNode([]byte("x")).Cid()
		for range 10 {
			u.note(t.Context(), c, errors.New("503"))
		}
		said := u.last[string(c.Hash())].said
		require.Equal(t, time.Now(), said)
		require.Error(t, u.of(c))
		u.note(t.Context(), c, nil)
		require.NoError(t, u.of(c), "it was read since")
		u.note(t.Context(), c, errors.New("503"))
		require.Error(t, u.of(c))
		u.note(t.Context(), c, format.ErrNotFound{Cid: c})
		require.NoError(t, u.of(c), "it is gone, and others may have it")
		u.note(t.Context(), c, errors.New("503"))
		require.Equal(t, said, u.last[string(c.Hash())].said)
		time.Sleep(unreadFor)
		require.NoError(t, u.of(c))
		u.note(t.Context(), c, errors.New("503"))
		require.Equal(t, time.Now(), u.last[string(c.Hash())].said)

		// None of these is a fault of the store.
		other := merkledag.NewRawNode([]byte("y")).Cid()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		u.note(gone, other, context.Canceled)
		u.note(t.Context(), other, format.ErrNotFound{Cid: other})
		u.note(t.Context(), other, nil)
		require.NoError(t, u.of(other))

		for i := range maxUnread + 10 {
			u.note(t.Context(), merkledag.NewRawNode([]byte{byte(i), byte(i >> 8), 1}).Cid(), errors.New("503"))
		}
		require.LessOrEqual(t, len(u.last), maxUnread)
	})
}
