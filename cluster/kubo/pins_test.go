package kubo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	dag "github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
)

// rpc serves commands of a node with a handler and returns a client of it.
func rpc(t *testing.T, handle http.HandlerFunc) *Client {
	srv := httptest.NewServer(handle)
	t.Cleanup(srv.Close)
	addr, err := manet.FromNetAddr(srv.Listener.Addr())
	require.NoError(t, err)
	c, err := New(addr)
	require.NoError(t, err)
	return c
}

func message(w http.ResponseWriter, text string) {
	w.WriteHeader(http.StatusInternalServerError)
	_ = json.NewEncoder(w).Encode(map[string]any{"Message": text, "Code": 0, "Type": "error"})
}

// progress is a node that reports how far a pin is, and then waits for its client to go.
func progress(w http.ResponseWriter, r *http.Request, blocks ...int) {
	for _, n := range blocks {
		_, _ = fmt.Fprintf(w, `{"Progress":%d}`+"\n", n)
		w.(http.Flusher).Flush()
	}
	<-r.Context().Done()
}

func TestAPinWithoutProgressEnds(t *testing.T) {
	id := rawBlock(t, 1).Cid
	c := rpc(t, func(w http.ResponseWriter, r *http.Request) { progress(w, r, 0, 1, 3, 3) })
	var seen []int
	err := c.Pin(t.Context(), PinRequest{Cid: id, Stall: 50 * time.Millisecond, Progress: func(n int) { seen = append(seen, n) }})
	var stalled *StallError
	require.ErrorAs(t, err, &stalled)
	require.Equal(t, &StallError{For: 50 * time.Millisecond, Blocks: 3}, stalled)
	require.Equal(t, []int{1, 3}, seen)

	// One that is ended by its caller has not stalled.
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("it was unpinned")
	err = c.Pin(ctx, PinRequest{Cid: id, Stall: time.Hour, Progress: func(int) { cancel(why) }})
	require.ErrorIs(t, err, why)
	require.NotErrorAs(t, err, &stalled)
}

// TestAPinThatFailsLateFails is about what ipfs-cluster takes for a success: an error behind
// a report of progress, and an answer that ends.
func TestAPinThatFailsLateFails(t *testing.T) {
	id := rawBlock(t, 1).Cid
	for want, handle := range map[string]http.HandlerFunc{
		"the disk is full": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Stream-Error")
			_, _ = fmt.Fprintln(w, `{"Progress":1}`)
			w.Header().Set("X-Stream-Error", "the disk is full")
		},
		"did not report that it pinned": func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, `{"Progress":1}`) },
		"no new block for 2m0s; first missing": func(w http.ResponseWriter, _ *http.Request) {
			message(w, "pin: no new block for 2m0s; first missing "+id.String())
		},
	} {
		require.ErrorContains(t, rpc(t, handle).Pin(t.Context(), PinRequest{Cid: id}), want)
	}
	c := rpc(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "false", r.URL.Query().Get("recursive"))
		require.Equal(t, "a name", r.URL.Query().Get("name"))
		_, _ = fmt.Fprintf(w, `{"Progress":1}{"Pins":[%q]}`, id)
	})
	require.NoError(t, c.Pin(t.Context(), PinRequest{Cid: id, Direct: true, Name: "a name", Stall: time.Hour}))
}

func TestPinnedAndUnpin(t *testing.T) {
	id := rawBlock(t, 1).Cid
	text := ""
	c := rpc(t, func(w http.ResponseWriter, _ *http.Request) {
		if text != "" {
			message(w, text)
		}
	})
	pinned, err := c.Pinned(t.Context(), id, "recursive")
	require.NoError(t, err)
	require.True(t, pinned)
	text = "path '/ipfs/x' is not pinned"
	pinned, err = c.Pinned(t.Context(), id, "recursive")
	require.NoError(t, err)
	require.False(t, pinned)
	text = "not pinned or pinned indirectly"
	require.NoError(t, c.Unpin(t.Context(), id))
	text = "the disk is full"
	require.ErrorContains(t, c.Unpin(t.Context(), id), text)
	_, err = c.Pinned(t.Context(), id, "recursive")
	require.ErrorContains(t, err, text)
	_, err = c.Has(t.Context(), id)
	require.ErrorContains(t, err, text)
}

func TestACollectionThatFailsLate(t *testing.T) {
	id := rawBlock(t, 1).Cid
	c := rpc(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Stream-Error")
		_, _ = fmt.Fprintf(w, `{"Key":{"/":%q}}{"Error":"one block"}`, id)
		w.Header().Set("X-Stream-Error", "encountered errors during gc run")
	})
	var got []Collected
	err := c.GC(t.Context(), func(one Collected) { got = append(got, one) })
	require.ErrorContains(t, err, "encountered errors during gc run")
	require.Equal(t, []Collected{{Key: id}, {Error: "one block"}}, got)
}

// tree is a DAG in memory: some folders of some leaves each, and an inline block with a link.
type tree struct {
	blocks map[string]format.Node
	root   cid.Cid
	order  []cid.Cid // depth first, without the root
	asked  int
}

func newTree(t *testing.T) *tree {
	s := &tree{blocks: map[string]format.Node{}}
	keep := func(n format.Node) format.Node { s.blocks[n.Cid().String()] = n; return n }
	root := &dag.ProtoNode{}
	root.SetCidBuilder(dag.V1CidPrefix())
	for i := range 3 {
		folder := &dag.ProtoNode{}
		folder.SetCidBuilder(dag.V1CidPrefix())
		var below []cid.Cid
		for j := range 3 {
			leaf := keep(dag.NewRawNode(fmt.Append(nil, i, j)))
			require.NoError(t, folder.AddNodeLink("", leaf))
			below = append(below, leaf.Cid())
		}
		require.NoError(t, root.AddNodeLink("", keep(folder)))
		s.order = append(append(s.order, folder.Cid()), below...)
	}
	inside := &dag.ProtoNode{}
	last := keep(dag.NewRawNode([]byte("below an inline block")))
	require.NoError(t, inside.AddNodeLink("", last))
	inline, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.IDENTITY, MhLength: -1}.Sum(inside.RawData())
	require.NoError(t, err)
	require.NoError(t, root.AddRawLink("", &format.Link{Cid: inline}))
	s.order = append(s.order, last.Cid())
	s.root = keep(root).Cid()
	return s
}

func (s *tree) client(t *testing.T) *Client {
	asked := make(chan struct{}, 1)
	return rpc(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		s.asked++
		n := s.blocks[r.URL.Query().Get("arg")]
		<-asked
		switch {
		case r.URL.Query().Get("offline") != "true":
			t.Error("the node may fetch")
		case n == nil:
			message(w, "block was not found locally (offline): ipld: could not find "+r.URL.Query().Get("arg"))
		case r.URL.Path == "/api/v0/block/get":
			if n.Cid().Prefix().Codec == cid.Raw {
				t.Error("a leaf is read")
			}
			_, _ = w.Write(n.RawData())
		}
	})
}

func TestMissing(t *testing.T) {
	s := newTree(t)
	c := s.client(t)
	w, err := c.Missing(t.Context(), []cid.Cid{s.root}, 5, 1000)
	require.NoError(t, err)
	require.Equal(t, Walk{Whole: true, Blocks: 14}, w)
	require.Equal(t, 14, s.asked)
	for _, gone := range append(s.order, s.root) {
		n := s.blocks[gone.String()]
		delete(s.blocks, gone.String())
		w, err = c.Missing(t.Context(), []cid.Cid{s.root}, 5, 1000)
		require.NoError(t, err)
		require.Equal(t, []cid.Cid{gone}, w.Missing)
		require.False(t, w.Whole)
		s.blocks[gone.String()] = n
	}
	w, err = c.Missing(t.Context(), []cid.Cid{s.root}, 5, 3)
	require.NoError(t, err)
	require.False(t, w.Whole, "it was cut short")
	require.Empty(t, w.Missing)
	for _, gone := range s.order {
		if gone.Prefix().Codec == cid.Raw {
			delete(s.blocks, gone.String())
		}
	}
	w, err = c.Missing(t.Context(), []cid.Cid{s.root}, 2, 1000)
	require.NoError(t, err)
	require.Len(t, w.Missing, 2)
}
