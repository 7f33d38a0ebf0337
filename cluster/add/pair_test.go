package add

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
)

// shelf is an IPFS node's store in memory.
type shelf struct {
	mu     sync.Mutex
	blocks []string
}

func (s *shelf) node(t *testing.T) *kubo.Client {
	return node(t, func(w http.ResponseWriter, r *http.Request) {
		arrived := make(chan string)
		took := make(chan []string)
		go func() {
			var all []string
			for b := range arrived {
				all = append(all, b)
			}
			took <- all
		}()
		stores(t, arrived)(w, r)
		close(arrived)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.blocks = append(s.blocks, <-took...)
	})
}

func (s *shelf) holds() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.blocks)
}

// many are blocks of several MiB in all, more than what is on its way at once.
func many() (texts []string) {
	for i := range 120 {
		texts = append(texts, fmt.Sprint(i)+string(bytes.Repeat([]byte{byte(i)}, i*2000)))
	}
	return texts
}

func channelOf(texts []string) <-chan api.NodeWithMeta {
	blocks := make(chan api.NodeWithMeta, len(texts))
	for _, text := range texts {
		blocks <- block(text)
	}
	close(blocks)
	return blocks
}

func pairOf(all []host.Host) []peer.ID { return []peer.ID{all[1].ID(), all[2].ID()} }

func TestAPairHoldsTheSame(t *testing.T) {
	all := some(t, 3)
	var first, second shelf
	Receive(all[1], first.node(t), nil, everybody)
	Receive(all[2], second.node(t), nil, everybody)
	for _, texts := range [][]string{many(), {"one"}} {
		first.blocks, second.blocks = nil, nil
		require.Equal(t, []error{nil, nil}, over(all[0], nil).Stream(t.Context(), pairOf(all), channelOf(texts)))
		require.Equal(t, texts, first.holds())
		require.Equal(t, texts, second.holds())
	}
	for _, c := range all[0].Network().ConnsToPeer(all[2].ID()) {
		require.Empty(t, c.GetStreams(), "nothing went to the second one directly")
	}
}

func fullNode(t *testing.T) *kubo.Client {
	return node(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "disk full", http.StatusInternalServerError)
	})
}

// hangs is a node that does something with a request and does not answer before
// the end of the test.
func hangs(t *testing.T, do func(*http.Request)) *kubo.Client {
	end := make(chan struct{})
	n := node(t, func(_ http.ResponseWriter, r *http.Request) {
		do(r)
		<-end
	})
	t.Cleanup(func() { close(end) })
	return n
}

func TestOneOfAPairFails(t *testing.T) {
	for _, c := range []struct {
		name          string
		receive       func(t *testing.T, all []host.Host, first, second *shelf)
		first, second string // errors; none: it holds everything
	}{
		{"the first one's node", func(t *testing.T, all []host.Host, _, second *shelf) {
			Receive(all[1], fullNode(t), nil, everybody)
			Receive(all[2], second.node(t), nil, everybody)
		}, "disk full", ""},
		{"the second one's node", func(t *testing.T, all []host.Host, first, _ *shelf) {
			Receive(all[1], first.node(t), nil, everybody)
			Receive(all[2], fullNode(t), nil, everybody)
		}, "", "disk full"},
		{"both nodes", func(t *testing.T, all []host.Host, _, _ *shelf) {
			Receive(all[1], fullNode(t), nil, everybody)
			Receive(all[2], fullNode(t), nil, everybody)
		}, "disk full", "disk full"},
		{"the second one is away", func(t *testing.T, all []host.Host, first, _ *shelf) {
			Receive(all[1], first.node(t), nil, everybody)
			require.NoError(t, all[2].Close())
		}, "", "reach the peer"},
		{"the second one is not trusted by the first", func(t *testing.T, all []host.Host, first, second *shelf) {
			Receive(all[1], first.node(t), nil, func(_ context.Context, id peer.ID) bool { return id != all[2].ID() })
			Receive(all[2], second.node(t), nil, everybody)
		}, "", "does not trust this one"},
		{"the first one is not trusted by the second", func(t *testing.T, all []host.Host, first, second *shelf) {
			Receive(all[1], first.node(t), nil, everybody)
			Receive(all[2], second.node(t), nil, func(_ context.Context, id peer.ID) bool { return id != all[1].ID() })
		}, "", errUntrusted.Error()},
		{"the first one does not trust the source", func(t *testing.T, all []host.Host, first, second *shelf) {
			Receive(all[1], first.node(t), nil, func(_ context.Context, id peer.ID) bool { return id != all[0].ID() })
			Receive(all[2], second.node(t), nil, everybody)
		}, errUntrusted.Error(), errUntrusted.Error()},
		{"the first one is older", func(t *testing.T, all []host.Host, first, second *shelf) {
			Receive(all[1], first.node(t), nil, everybody)
			all[1].RemoveStreamHandler(PairProtocol)
			Receive(all[2], second.node(t), nil, everybody)
		}, "", "cannot do that yet"},
		{"the second one stands still", func(t *testing.T, all []host.Host, first, _ *shelf) {
			Receive(all[1], first.node(t), nil, everybody).passOn = 100 * time.Millisecond
			Receive(all[2], hangs(t, func(*http.Request) {}), nil, everybody)
		}, "", "100ms"},
		{"the second one does not answer", func(t *testing.T, all []host.Host, first, _ *shelf) {
			Receive(all[1], first.node(t), nil, everybody).passOn = 300 * time.Millisecond
			Receive(all[2], hangs(t, func(r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), nil, everybody)
		}, "", "300ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			all := some(t, 3)
			var shelves [2]shelf
			c.receive(t, all, &shelves[0], &shelves[1])
			errs := over(all[0], nil).Stream(t.Context(), pairOf(all), channelOf(many()))
			for i, want := range []string{c.first, c.second} {
				if want != "" {
					require.ErrorContains(t, errs[i], want)
					continue
				}
				require.NoError(t, errs[i])
				require.Equal(t, many(), shelves[i].holds())
			}
		})
	}
}

func TestAPairStoresNothingOfAnAddThatEnded(t *testing.T) {
	all := some(t, 3)
	arrived := make(chan string, 1000)
	ended := make(chan struct{}, 2)
	for _, h := range all[1:] {
		Receive(h, node(t, func(w http.ResponseWriter, r *http.Request) {
			stores(t, arrived)(w, r)
			ended <- struct{}{}
		}), nil, everybody)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	blocks := make(chan api.NodeWithMeta)
	result := make(chan []error, 1)
	go func() { result <- over(all[0], nil).Stream(ctx, pairOf(all), blocks) }()
	for i := range 100 {
		blocks <- block(fmt.Sprintf("%100000d", i))
	}
	cancel(errors.New("the client is gone"))
	for _, err := range <-result {
		require.ErrorContains(t, err, "the client is gone")
	}
	<-ended
	<-ended // neither took it for the end of the file, which stores would have counted
	require.Less(t, len(arrived), 200)
}

func TestCopyTakesWhatTheNodeHas(t *testing.T) {
	from, to := hosts(t)
	var there shelf
	Receive(to, there.node(t), nil, everybody)
	root := block("root").Cid.Cid
	var said http.Header
	own := node(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v0/dag/export" || r.URL.Query().Get("offline") != "true" || r.URL.Query().Get("arg") != root.String() {
			http.Error(w, "asked for "+r.URL.String(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Trailer", "X-Stream-Error")
		next := channelOf([]string{"root", "leaf"})
		_, _ = io.Copy(w, kubo.NewCAR(take(r.Context(), next)))
		for name := range said {
			w.Header().Set(name, said.Get(name))
		}
	})
	moved := 0
	require.NoError(t, over(from, own).Copy(t.Context(), to.ID(), root, func() { moved++ }))
	require.Equal(t, []string{"root", "leaf"}, there.holds())
	require.Positive(t, moved)

	// Half a DAG is not passed off as all of it.
	there.blocks = nil
	said = http.Header{"X-Stream-Error": {"block was not found locally"}}
	require.ErrorContains(t, over(from, own).Copy(t.Context(), to.ID(), root, func() {}), "not found locally")
	require.ErrorContains(t, over(from, own).Copy(t.Context(), to.ID(), cid.Undef, func() {}), "400 Bad Request")
}
