package history

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

var logger = logging.Logger("cluster-aws")

const (
	// How much is remembered before the older half is forgotten: two answers at
	// their largest, with what a block takes beside its bytes.
	aheadBytes  = 2 * mostBytes
	besideBytes = 300
	reachMost   = 1 << 14

	// How much more is asked for at each step back.
	widening = 4

	// A change that nobody had is asked for again after this time.
	againAfter = time.Second

	// A peer that failed is left alone for this time, unless all have.
	leaveAlone = 10 * time.Second
)

// Inner is what a Getter stands in front of: an [ipfslite.Peer].
type Inner interface {
	ipld.DAGService
	Session(context.Context) ipld.NodeGetter
	BlockStore() blockstore.Blockstore
}

// Getter is a DAG service that gets changes as the package comment says, and
// leaves all else to what is below. It is safe for concurrent use.
//
// upstream: history-getter
type Getter struct {
	Inner
	peers func(context.Context) []peer.ID
	ask   func(ctx context.Context, id peer.ID, want []cid.Cid, most int) ([]blocks.Block, error)

	mu     sync.Mutex
	ahead  generations
	reach  map[cid.Cid]int // how many to ask for, for what is before an answer's end
	last   peer.ID         // who gave something last
	failed map[peer.ID]time.Time
}

// New returns a Getter that asks those peers of a host that are connected and
// trusted.
func New(inner Inner, h host.Host, trusted func(context.Context, peer.ID) bool) *Getter {
	return newGetter(inner,
		func(ctx context.Context) []peer.ID {
			return slices.DeleteFunc(h.Network().Peers(), func(id peer.ID) bool {
				return h.Network().Connectedness(id) != network.Connected || !trusted(ctx, id)
			})
		},
		func(ctx context.Context, id peer.ID, want []cid.Cid, most int) ([]blocks.Block, error) {
			return ask(ctx, h, id, want, most)
		})
}

func newGetter(inner Inner, peers func(context.Context) []peer.ID, ask func(context.Context, peer.ID, []cid.Cid, int) ([]blocks.Block, error)) *Getter {
	return &Getter{Inner: inner, peers: peers, ask: ask, reach: map[cid.Cid]int{}, failed: map[peer.ID]time.Time{}}
}

// Session implements [crdt.SessionDAGService].
func (g *Getter) Session(ctx context.Context) ipld.NodeGetter {
	return session{g, g.Inner.Session(ctx)}
}

// Get implements [ipld.NodeGetter].
func (g *Getter) Get(ctx context.Context, c cid.Cid) (ipld.Node, error) {
	return session{g, g.Inner}.Get(ctx, c)
}

// GetMany implements [ipld.NodeGetter].
func (g *Getter) GetMany(ctx context.Context, cids []cid.Cid) <-chan *ipld.NodeOption {
	return session{g, g.Inner}.GetMany(ctx, cids)
}

// session gets changes from peers, and with bitswap what they do not give.
type session struct {
	g       *Getter
	bitswap ipld.NodeGetter
}

func (s session) Get(ctx context.Context, c cid.Cid) (ipld.Node, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.g.bring(ctx, c)
	go s.g.keepAsking(ctx, c)
	// Bitswap looks into the store first, and is told of what gets there.
	return s.bitswap.Get(ctx, c)
}

func (s session) GetMany(ctx context.Context, cids []cid.Cid) <-chan *ipld.NodeOption {
	out := make(chan *ipld.NodeOption, len(cids))
	go func() {
		defer close(out)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s.g.bring(ctx, cids...)
		go s.g.keepAsking(ctx, cids...)
		for o := range s.bitswap.GetMany(ctx, cids) {
			out <- o
		}
	}()
	return out
}

// keepAsking asks for what is not there every second, until the context ends:
// that is, until bitswap or an answer to this has brought everything.
func (g *Getter) keepAsking(ctx context.Context, cids ...cid.Cid) {
	again := time.NewTicker(againAfter)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			g.bring(ctx, cids...)
		case <-ctx.Done():
			return
		}
	}
}

// bring gets changes that the store lacks into it, from memory or from the peers.
// What none of them has stays away.
func (g *Getter) bring(ctx context.Context, cids ...cid.Cid) {
	lacking := g.hand(ctx, cids)
	if len(lacking) == 0 {
		return
	}
	most := g.most(lacking)
	for _, id := range g.order(ctx) {
		came, err := g.ask(ctx, id, lacking, most)
		came = slices.DeleteFunc(came, func(b blocks.Block) bool { return g.here(ctx, b.Cid()) })
		g.keep(id, came, most, err)
		if err != nil && ctx.Err() == nil {
			logger.Debugf("%s", err)
		}
		if lacking = g.hand(ctx, lacking); len(lacking) == 0 || ctx.Err() != nil {
			return
		}
	}
}

// hand gives the block service what memory has of changes, and returns those that
// are in neither.
func (g *Getter) hand(ctx context.Context, cids []cid.Cid) (lacking []cid.Cid) {
	for _, c := range cids {
		if g.here(ctx, c) {
			continue
		}
		g.mu.Lock()
		b := g.ahead.take(c)
		g.mu.Unlock()
		if b == nil {
			lacking = append(lacking, c)
			continue
		}
		node, err := merkledag.DecodeProtobufBlock(b)
		if err == nil {
			err = g.Add(ctx, node)
		}
		if err != nil {
			logger.Warnf("keep change %s: %s", c, err)
			lacking = append(lacking, c)
		}
	}
	return lacking
}

// here reports whether the store has a change. One that cannot be looked up is
// fetched, and its reader gets the error.
func (g *Getter) here(ctx context.Context, c cid.Cid) bool {
	here, err := g.BlockStore().Has(ctx, c)
	return err == nil && here
}

// most is how many changes to ask for, to get these: more when they are before
// others that were asked for.
func (g *Getter) most(cids []cid.Cid) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	most := len(cids)
	for _, c := range cids {
		most = max(most, g.reach[c])
		delete(g.reach, c)
	}
	return min(most, mostChanges)
}

// order is the peers to ask: first who gave something last, and not who failed a
// moment ago, unless nobody else is left.
func (g *Getter) order(ctx context.Context) []peer.ID {
	peers := g.peers(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.failed, func(_ peer.ID, at time.Time) bool { return time.Since(at) > leaveAlone })
	well := slices.DeleteFunc(slices.Clone(peers), func(id peer.ID) bool { _, failed := g.failed[id]; return failed })
	if len(well) == 0 {
		return peers
	}
	if i := slices.Index(well, g.last); i > 0 {
		well[0], well[i] = well[i], well[0]
	}
	return well
}

// keep remembers what a peer gave.
func (g *Getter) keep(id peer.ID, came []blocks.Block, most int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.failed[id] = time.Now()
	}
	if len(came) == 0 {
		return
	}
	g.last = id
	if len(g.reach) > reachMost {
		clear(g.reach)
	}
	for _, b := range came {
		g.ahead.put(b)
		delete(g.reach, b.Cid())
	}
	for _, b := range came {
		node, err := merkledag.DecodeProtobufBlock(b)
		if err != nil {
			continue // the consensus will say so
		}
		for _, l := range node.Links() {
			if !g.ahead.has(l.Cid) {
				g.reach[l.Cid] = widening * most
			}
		}
	}
}

// generations is a memory that forgets its older half when it is full.
type generations struct {
	young, old map[cid.Cid]blocks.Block
	size       int // of the young, in bytes
}

func (m *generations) put(b blocks.Block) {
	m.take(b.Cid())
	if m.size > aheadBytes || m.young == nil {
		m.old, m.young, m.size = m.young, map[cid.Cid]blocks.Block{}, 0
	}
	m.young[b.Cid()] = b
	m.size += len(b.RawData()) + besideBytes
}

func (m *generations) has(c cid.Cid) bool { return m.young[c] != nil || m.old[c] != nil }

// take returns a block and forgets it; nil if there is none.
func (m *generations) take(c cid.Cid) blocks.Block {
	b, young := m.young[c]
	if young {
		m.size -= len(b.RawData()) + besideBytes
	} else {
		b = m.old[c]
	}
	delete(m.young, c)
	delete(m.old, c)
	return b
}
