package add

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	dag "github.com/ipfs/boxo/ipld/merkledag"
	car "github.com/ipld/go-car/v2"
	libp2p "github.com/libp2p/go-libp2p"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
)

// node is an IPFS node that counts what it imports, and does with an import what
// it is told.
func node(t *testing.T, handle func(http.ResponseWriter, *http.Request)) *kubo.Client {
	srv := httptest.NewServer(http.HandlerFunc(handle))
	t.Cleanup(srv.Close)
	addr, err := manet.FromNetAddr(srv.Listener.Addr())
	require.NoError(t, err)
	c, err := kubo.New(addr)
	require.NoError(t, err)
	return c
}

// stores imports everything that is sent, and lets the test see every block.
func stores(t *testing.T, blocks chan<- string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		form, err := r.MultipartReader()
		if err != nil {
			t.Error(err)
			return
		}
		part, err := form.NextPart()
		if err != nil {
			return // it was broken off
		}
		file, err := car.NewBlockReader(part)
		if err != nil {
			return
		}
		n := 0
		for ; ; n++ {
			b, err := file.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			blocks <- string(b.RawData())
		}
		_, _ = fmt.Fprintf(w, `{"Stats":{"BlockCount":%d}}`, n)
	}
}

// some returns hosts that know each other's addresses.
func some(t *testing.T, n int) []host.Host {
	var all []host.Host
	for range n {
		h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, h.Close()) })
		for _, other := range all {
			h.Peerstore().AddAddrs(other.ID(), other.Addrs(), 1<<40)
			other.Peerstore().AddAddrs(h.ID(), h.Addrs(), 1<<40)
		}
		all = append(all, h)
	}
	return all
}

func hosts(t *testing.T) (from, to host.Host) {
	all := some(t, 2)
	return all[0], all[1]
}

// sendBlocks sends what a channel brings to one peer.
func sendBlocks(ctx context.Context, h host.Host, dest peer.ID, blocks <-chan api.NodeWithMeta) error {
	return over(h, nil).Stream(ctx, []peer.ID{dest}, blocks)[0]
}

func over(h host.Host, node *kubo.Client) *overRPC {
	return &overRPC{rpc.NewClient(h, "/test"), h, node, nil}
}

func everybody(context.Context, peer.ID) bool { return true }

func block(data string) api.NodeWithMeta {
	n := dag.NewRawNode([]byte(data))
	return api.NodeWithMeta{Cid: api.NewCid(n.Cid()), Data: n.RawData()}
}

func TestBlocksReachTheNodeOfAnotherPeer(t *testing.T) {
	from, to := hosts(t)
	arrived := make(chan string, 300)
	Receive(to, node(t, stores(t, arrived)), nil, everybody)
	blocks := make(chan api.NodeWithMeta, 300)
	var want []string
	for i := range 300 {
		data := string(bytes.Repeat([]byte{byte(i)}, i*1000)) + fmt.Sprint(i)
		want = append(want, data)
		blocks <- block(data)
	}
	close(blocks)
	require.NoError(t, sendBlocks(t.Context(), from, to.ID(), blocks))
	close(arrived)
	var got []string
	for b := range arrived {
		got = append(got, b)
	}
	require.Equal(t, want, got)
}

func TestNoBlocksNoStream(t *testing.T) {
	from, _ := hosts(t)
	blocks := make(chan api.NodeWithMeta)
	close(blocks)
	require.NoError(t, sendBlocks(t.Context(), from, "nobody", blocks))
}

func TestWhyAPeerDidNotStoreAnAdd(t *testing.T) {
	endless := func() <-chan api.NodeWithMeta {
		blocks := make(chan api.NodeWithMeta)
		ctx := t.Context()
		go func() {
			for i := 0; ; i++ {
				select {
				case blocks <- block(fmt.Sprint(i)):
				case <-ctx.Done():
					return
				}
			}
		}()
		return blocks
	}
	t.Run("its node fails early", func(t *testing.T) {
		from, to := hosts(t)
		Receive(to, node(t, func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "disk full", http.StatusInternalServerError)
		}), nil, everybody)
		require.ErrorContains(t, sendBlocks(t.Context(), from, to.ID(), endless()), "disk full")
	})
	t.Run("it does not trust the sender", func(t *testing.T) {
		from, to := hosts(t)
		Receive(to, node(t, func(http.ResponseWriter, *http.Request) { t.Error("it asked its node") }),
			nil, func(_ context.Context, id peer.ID) bool { return id != from.ID() })
		require.ErrorContains(t, sendBlocks(t.Context(), from, to.ID(), endless()), errUntrusted.Error())
	})
	t.Run("it does not know the protocol", func(t *testing.T) {
		from, to := hosts(t)
		require.ErrorContains(t, sendBlocks(t.Context(), from, to.ID(), endless()), "reach the peer")
	})
	t.Run("its node took less", func(t *testing.T) {
		from, to := hosts(t)
		Receive(to, node(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, `{"Stats":{"BlockCount":0}}`)
		}), nil, everybody)
		blocks := make(chan api.NodeWithMeta, 1)
		blocks <- block("x")
		close(blocks)
		require.ErrorContains(t, sendBlocks(t.Context(), from, to.ID(), blocks), "it stored 0 of 1 blocks")
	})
	t.Run("the add ended", func(t *testing.T) {
		from, to := hosts(t)
		arrived := make(chan string)
		Receive(to, node(t, stores(t, arrived)), nil, everybody)
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		blocks := make(chan api.NodeWithMeta, 100)
		for i := range 100 {
			blocks <- block(fmt.Sprintf("%100000d", i)) // more than any buffer holds back
		}
		go func() { ended <- sendBlocks(ctx, from, to.ID(), blocks) }()
		<-arrived
		go func() {
			for range arrived {
			}
		}()
		cancel(errors.New("the client is gone"))
		require.ErrorContains(t, <-ended, "the client is gone")
	})
}

func TestAReceiverFinishesWhatHasBegun(t *testing.T) {
	from, to := hosts(t)
	arrived := make(chan string, 2000)
	r := Receive(to, node(t, stores(t, arrived)), nil, everybody)
	blocks := make(chan api.NodeWithMeta, 2000)
	sent := make(chan error, 1)
	go func() { sent <- sendBlocks(t.Context(), from, to.ID(), blocks) }()
	for i := range 10 {
		blocks <- block(fmt.Sprintf("%100000d", i))
	}
	<-arrived

	drained := make(chan error, 1)
	go func() { drained <- r.Drain(t.Context()) }()
	for { // until the drain has begun
		again := make(chan api.NodeWithMeta, 1)
		again <- block("late")
		close(again)
		if err := sendBlocks(t.Context(), from, to.ID(), again); err != nil {
			require.ErrorContains(t, err, errDraining.Error())
			break
		}
	}
	require.Empty(t, drained)
	blocks <- block("last")
	close(blocks)
	require.NoError(t, <-sent)
	require.NoError(t, <-drained)
}

func TestADrainOfTheReceiverIsBounded(t *testing.T) {
	from, to := hosts(t)
	arrived := make(chan string, 10)
	r := Receive(to, node(t, stores(t, arrived)), nil, everybody)
	blocks := make(chan api.NodeWithMeta, 2)
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	go func() { sent <- sendBlocks(ctx, from, to.ID(), blocks) }()
	blocks <- block(string(make([]byte, 200_000)))
	blocks <- block(string(make([]byte, 200_001)))
	<-arrived
	over, end := context.WithCancelCause(t.Context())
	end(errors.New("their time is up"))
	require.ErrorContains(t, r.Drain(over), "1 adds of other peers were still being stored: their time is up")
	cancel()
	require.ErrorIs(t, <-sent, context.Canceled)
}
