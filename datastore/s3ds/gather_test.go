package s3ds

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	ds "github.com/ipfs/go-datastore"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/recorded"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/links"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// addedFile is a DAG in the order in which an add writes it: leaves, their node, …, root.
type addedFile struct {
	all    []put
	nodes  []put
	leaves []put
	root   put
}

func asPut(n ipld.Node) put {
	return put{key(n.Cid().Hash()), n.RawData()}
}

func key(h mh.Multihash) ds.Key { return name(h).key() }

// unixfsFile makes a file of leaves of one size, with so many links in each node.
func unixfsFile(t testing.TB, seed uint64, leaves, size, width int) addedFile {
	t.Helper()
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	var out addedFile
	node := func(children []ipld.Node) ipld.Node {
		fs := unixfs.NewFSNode(unixfs.TFile)
		fs.AddBlockSize(uint64(size))
		data, err := fs.GetBytes()
		require.NoError(t, err)
		n := merkledag.NodeWithData(data)
		for _, c := range children {
			require.NoError(t, n.AddNodeLink("", c))
		}
		out.nodes = append(out.nodes, asPut(n))
		out.all = append(out.all, asPut(n))
		return n
	}
	var nodes, open []ipld.Node
	for i := range leaves {
		data := make([]byte, size)
		_, _ = source.Read(data)
		leaf := merkledag.NewRawNode(data)
		out.leaves = append(out.leaves, asPut(leaf))
		out.all = append(out.all, asPut(leaf))
		if open = append(open, leaf); len(open) == width || i == leaves-1 {
			nodes, open = append(nodes, node(open)), nil
		}
	}
	out.root = asPut(node(nodes))
	return out
}

func (p *Packed) gatherAll(t testing.TB) {
	t.Helper()
	require.NoError(t, p.gatherNow(t.Context(), scattered))
}

func nodePacks(t testing.TB, b bucket.Bucket) (names []string) {
	for _, o := range objects(t, b) {
		if pack.IsNodes(o) {
			names = append(names, o)
		}
	}
	return names
}

// The nodes of a file that lies in several packs come with one request, its root with them; a fresh node finds them there, too.
func TestNodesAreGathered(t *testing.T) {
	log := &recorded.Log{}
	s := newSite(recorded.Wrap(mem.New(), log))
	s.c.CacheSize = NoCache
	p := s.open(t)
	f := unixfsFile(t, 1, 80, 64<<10, 10) // 5 MiB in packs of 1 MiB
	addLikeKubo(t, p, f.all)
	flush(t, p)
	require.Equal(t, len(f.nodes), p.stat().NodesWaiting)
	p.gatherAll(t)
	require.Zero(t, p.stat().NodesWaiting)
	require.EqualValues(t, len(f.nodes), p.stat().NodesGathered)
	require.Len(t, nodePacks(t, s.b), 1)
	before := len(objects(t, s.b))
	p.gatherAll(t)
	require.Len(t, objects(t, s.b), before, "what is gathered is not gathered again")
	requireAll(t, p, f.all)

	// A small pack of nodes lies between small packs of data, and they are not mixed.
	require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	for _, k := range p.x.Packs() {
		for _, n := range f.nodes {
			l, err := p.x.Get(mustName(n))
			require.NoError(t, err)
			if l.Pack == k.ID {
				require.True(t, pack.IsNodes(k.Name), k.Name)
			}
		}
		for _, n := range f.leaves {
			l, err := p.x.Get(mustName(n))
			require.NoError(t, err)
			if l.Pack == k.ID {
				require.False(t, pack.IsNodes(k.Name), k.Name)
			}
		}
	}
	require.NoError(t, p.Close())

	fresh := newSite(s.b)
	fresh.c.CacheSize = NoCache
	p = fresh.open(t)
	log.Section("walk")
	requireAll(t, p, []put{f.root})
	requireAll(t, p, f.nodes)
	_, after, _ := strings.Cut(log.String(), "# walk\n")
	require.Equal(t, 1, strings.Count(after, "get "), after)
	requireAll(t, p, f.all)
}

// What is not worth a request waits: nodes that lie beside each other, and nodes that do not link to each other.
func TestNodesThatAreFineWhereTheyAre(t *testing.T) {
	s := newSite(mem.New())
	p := s.open(t)
	for i := range 5 {
		addLikeKubo(t, p, unixfsFile(t, uint64(10+i), 3, 1000, 10).all)
		flush(t, p)
	}
	p.gatherAll(t)
	require.Empty(t, nodePacks(t, s.b))
	require.Zero(t, p.stat().NodesWaiting, "nothing that will be done soon")
}

// An upload of nodes that fails is tried again, and is nobody's failure: the nodes are where they were.
func TestGatherFails(t *testing.T) {
	bad := faulty.Wrap(mem.New())
	s := newSite(bad)
	p := s.open(t)
	f := unixfsFile(t, 2, 40, 64<<10, 8)
	addLikeKubo(t, p, f.all)
	flush(t, p)
	bad.Set(faulty.Rule{Op: bucket.OpPut, Times: 1, Key: ".nodes", Err: errInjected})
	require.ErrorIs(t, p.gatherNow(t.Context(), scattered), errInjected)
	require.ErrorIs(t, p.stat().GatherFailure, errInjected)
	requireAll(t, p, f.all)
	p.gatherAll(t)
	require.NoError(t, p.stat().GatherFailure)
	require.Len(t, nodePacks(t, s.b), 1)
	requireAll(t, p, f.all)
}

// Blocks that were deleted or moved while they waited are left out.
func TestGatherAfterDelete(t *testing.T) {
	s := newSite(mem.New())
	p := s.open(t)
	f := unixfsFile(t, 3, 40, 64<<10, 8)
	addLikeKubo(t, p, f.all)
	flush(t, p)
	for _, n := range f.nodes[:2] {
		require.NoError(t, p.Delete(t.Context(), n.key))
	}
	p.gatherAll(t)
	require.EqualValues(t, len(f.nodes)-2, p.stat().NodesGathered)
	for _, n := range f.nodes[:2] {
		_, err := p.Get(t.Context(), n.key)
		require.Equal(t, ds.ErrNotFound, err)
	}
	requireAll(t, p, f.nodes[2:])
}

// A piece of work that is over is gathered by itself, once; an idle store asks nothing after that.
func TestGatherByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &recorded.Log{}
		s := newSite(recorded.Wrap(mem.New(), log))
		s.o.manual = false
		s.c.SealAge = time.Minute
		p, err := s.tryOpen(t)
		require.NoError(t, err)
		f := unixfsFile(t, 4, 40, 64<<10, 8)
		addLikeKubo(t, p, f.all)
		pass(2 * time.Minute)
		require.Len(t, nodePacks(t, s.b), 1)
		log.Section("idle")
		pass(time.Hour)
		_, after, _ := strings.Cut(log.String(), "# idle\n")
		require.NotContains(t, after, "put ")
		require.NoError(t, p.Close())
	})
}

// What is uploaded is in the cache: who has written it reads it for nothing.
func TestUploadsAreKept(t *testing.T) {
	log := &recorded.Log{}
	s := newSite(recorded.Wrap(mem.New(), log))
	p := s.open(t)
	f := unixfsFile(t, 5, 80, 64<<10, 10)
	addLikeKubo(t, p, f.all)
	flush(t, p)
	p.gatherAll(t)
	log.Section("read back")
	requireAll(t, p, f.all)
	require.NoError(t, p.Close())
	p = s.open(t)
	requireAll(t, p, f.all)
	_, after, _ := strings.Cut(log.String(), "# read back\n")
	require.NotContains(t, after, ".car", "everything comes from the cache")
}

// Walkers of every kind over a file and over folders of small files, cold: few requests, whatever the order.
func TestWalks(t *testing.T) {
	const leaf = 64 << 10
	for name, order := range map[string]func([]put) []put{
		"in order": func(p []put) []put { return p },
		"32 at once": func(p []put) []put {
			p = slices.Clone(p)
			rng := rand.New(rand.NewPCG(1, 2))
			for i := 0; i < len(p); i += 32 {
				part := p[i:min(i+32, len(p))]
				rng.Shuffle(len(part), func(a, b int) { part[a], part[b] = part[b], part[a] })
			}
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := &recorded.Log{}
			s := newSite(recorded.Wrap(mem.New(), log))
			s.c.CacheSize, s.c.PackSize = NoCache, 8<<20
			p := s.open(t)
			f := unixfsFile(t, 6, 512, leaf, 174) // 32 MiB
			addLikeKubo(t, p, f.all)
			flush(t, p)
			p.gatherAll(t)
			require.NoError(t, p.Close())
			p = s.open(t)
			log.Section("walk")
			requireAll(t, p, []put{f.root})
			requireAll(t, p, f.nodes)
			requireAll(t, p, order(f.leaves))
			_, after, _ := strings.Cut(log.String(), "# walk\n")
			gets := strings.Count(after, "get ")
			t.Logf("%d GETs for %d packs", gets, p.stat().Index.Packs)
			require.LessOrEqual(t, gets, 2*int(p.stat().Index.Packs)+2, after)
		})
	}
}

func TestKinship(t *testing.T) {
	var k kinship
	k.init()
	f := unixfsFile(t, 7, 300, 100, 174)
	hash := func(one put) name { return mustName(one) }
	require.Zero(t, k.expect(hash(f.leaves[0]), 100).window, "nobody has read its node")
	k.learn(hash(f.nodes[0]), f.nodes[0].value)
	x := k.expect(hash(f.leaves[5]), 100)
	require.EqualValues(t, fileWindow, x.window)
	require.Equal(t, 5, x.at)
	require.Zero(t, k.expect(hash(f.leaves[200]), 100).window)
	require.Zero(t, k.expect(hash(f.root), 100).window)
	k.learn(hash(f.leaves[0]), f.leaves[0].value)

	// The bound holds, and the oldest go first.
	for i := range 200 {
		g := unixfsFile(t, uint64(100+i), 174, 10, 174)
		k.learn(hash(g.nodes[0]), g.nodes[0].value)
		require.LessOrEqual(t, k.links, maxKin)
	}
	require.Len(t, k.of, k.links)
	require.Zero(t, k.expect(hash(f.leaves[5]), 100).window)
}

// What is left of a file is what stands behind a leaf, below its node and below the nodes that follow.
func TestKinshipKnowsTheEnd(t *testing.T) {
	var k kinship
	k.init()
	f := unixfsFile(t, 7, 300, 100, 174)
	left := func(leaf int) int64 { return k.expect(mustName(f.leaves[leaf]), 100).left }
	k.learn(mustName(f.root), f.root.value)
	for _, n := range f.nodes {
		k.learn(mustName(n), n.value)
	}
	require.EqualValues(t, 100, left(299))
	require.EqualValues(t, 126*100, left(174))
	root, ok := links.Parse(f.root.value)
	require.True(t, ok)
	whole := left(0)
	require.EqualValues(t, 174*100+root.Links[1].Size, whole)
	// Nodes above what is read stay, however long the walk.
	for i := range 300 {
		g := unixfsFile(t, uint64(100+i), 174, 10, 174)
		k.learn(mustName(g.nodes[0]), g.nodes[0].value)
		require.EqualValues(t, whole-100, left(1))
	}
	// A node whose own is forgotten, or whose sizes are missing, says nothing.
	k.forget(k.nodes[string(mustName(f.root))])
	require.Zero(t, left(0))
	require.Nil(t, ends(links.Node{Kind: links.File, Links: make([]links.Link, 2)}))
	require.Nil(t, ends(links.Node{Kind: links.File, Links: []links.Link{{Size: 1 << 63}, {Size: 1 << 63}}}))
}

// Who reads single files of a folder gets just these; who walks over it gets what lies beside.
func TestKinshipOfFolders(t *testing.T) {
	folder := func(seed int) (put, []put) {
		n := merkledag.NodeWithData(unixfs.FolderPBData())
		var files []put
		for i := range 100 {
			leaf := merkledag.NewRawNode(fmt.Appendf(nil, "file %d of %d", i, seed))
			require.NoError(t, n.AddNodeLink(fmt.Sprintf("%03d", i), leaf))
			files = append(files, asPut(leaf))
		}
		return asPut(n), files
	}
	var k kinship
	k.init()
	read := func(one put) expectation { return k.expect(mustName(one), int64(len(one.value))) }
	dir, files := folder(1)
	k.learn(mustName(dir), dir.value)
	require.Zero(t, read(files[50]).window)
	require.Zero(t, read(files[10]).window)
	require.EqualValues(t, folderWindow, read(files[11]).window, "beside the last one")
	for _, i := range []int{90, 30, 70} {
		read(files[i])
	}
	require.True(t, read(files[0]).beyond, "this is a walk")
	other, more := folder(2)
	k.learn(mustName(other), other.value)
	require.True(t, read(more[77]).whole, "and it goes on in the next folder")
	for i := range 2 * lately {
		k.expect(name(fmt.Sprintf("something else %d", i)), 3)
	}
	require.Zero(t, read(more[3]).window, "it is long over")
}
