package s3ds

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/recorded"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// tree is a DAG, and its blocks in the order in which it is read.
type tree struct {
	root   cid.Cid
	size   uint64
	blocks []put
}

// leaf is a raw block of some pseudo-random bytes.
func leaf(t testing.TB, seed uint64, size int) tree {
	t.Helper()
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(data)
	var one put
	one.key, one.value = block(t, data, mh.SHA2_256)
	_, h := nameOf(one.key)
	return tree{cid.NewCidV1(cid.Raw, h), uint64(size), []put{one}}
}

// over is a node that links to others.
func over(t testing.TB, parts ...tree) tree {
	t.Helper()
	n := merkledag.NodeWithData([]byte("node"))
	all := []put{{}}
	var size uint64
	for i, part := range parts {
		require.NoError(t, n.AddRawLink(fmt.Sprintf("%04d", i), &ipld.Link{Cid: part.root, Size: part.size}))
		all = append(all, part.blocks...)
		size += part.size
	}
	all[0].key, all[0].value = block(t, n.RawData(), mh.SHA2_256)
	return tree{n.Cid(), size, all}
}

// fileOf is a file of some width and depth.
func fileOf(t testing.TB, seed uint64, width, depth, size int) tree {
	t.Helper()
	parts := make([]tree, width)
	for i := range parts {
		if depth == 1 {
			parts[i] = leaf(t, seed*100_000+uint64(i), size)
		} else {
			parts[i] = fileOf(t, seed*uint64(width)+uint64(i), width, depth-1, size)
		}
	}
	return over(t, parts...)
}

// scatter puts blocks into the bucket as go-ds-s3 does.
func scatter(t testing.TB, b bucket.Bucket, trees ...tree) {
	t.Helper()
	for _, one := range trees {
		for _, put := range one.blocks {
			putObject(t, b, "root"+put.key.String(), put.value)
		}
	}
}

// sections returns the blocks of all packs, in their order.
func sections(t testing.TB, b bucket.Bucket) (all [][]byte) {
	t.Helper()
	for _, name := range objects(t, b) {
		if !strings.HasSuffix(name, pack.Ext) {
			continue
		}
		body, _, err := b.Get(t.Context(), name, bucket.Range{})
		require.NoError(t, err)
		for s, err := range pack.Sections(body) {
			require.NoError(t, err)
			all = append(all, bytes.Clone(s.Data))
		}
	}
	return all
}

func values(puts []put) (all [][]byte) {
	for _, one := range puts {
		all = append(all, one.value)
	}
	return all
}

func rootsOf(trees ...tree) func(func(cid.Cid) bool) {
	var roots []cid.Cid
	for _, one := range trees {
		roots = append(roots, one.root)
	}
	return slices.Values(roots)
}

// requireInOrder fails unless the blocks of a tree are one after the other.
func requireInOrder(t *testing.T, all [][]byte, one tree) {
	t.Helper()
	want := values(one.blocks)
	at := slices.IndexFunc(all, func(data []byte) bool { return bytes.Equal(data, want[0]) })
	require.NotEqual(t, -1, at, "the root is in no pack")
	require.LessOrEqual(t, at+len(want), len(all))
	for i := range want {
		require.True(t, bytes.Equal(want[i], all[at+i]), "block %d of %d is not in its place", i, len(want))
	}
}

// TestRequestsOfRepack pins the order of blocks in packs, and what it costs to bring them there.
func TestRequestsOfRepack(t *testing.T) {
	gate.Plain(t, "writes and reads thousands of blocks again and again")
	log := &recorded.Log{}
	b := mem.New()
	pinned := []tree{fileOf(t, 1, 30, 2, 4000), leaf(t, 777, 300_000), over(t, fileOf(t, 2, 20, 1, 5000), over(t), fileOf(t, 3, 20, 1, 300_000))}
	others := []tree{fileOf(t, 4, 10, 3, 500), fileOf(t, 5, 40, 1, 262_144), leaf(t, 778, 10), leaf(t, 779, 500_000)}
	scatter(t, b, pinned...)
	scatter(t, b, others...)
	total := len(objects(t, b))
	s := newSite(recorded.Wrap(b, log))
	s.c.PackSize = 8 << 20
	log.Section("first start")
	p := s.open(t)
	log.Section(fmt.Sprintf("repack of %d loose objects", total))
	var last Progress
	require.NoError(t, p.repackLoose(t.Context(), rootsOf(pinned...), func(p Progress) { last = p }))
	require.EqualValues(t, total, last.Objects)
	require.EqualValues(t, total, last.TotalObjects)
	log.Section("again: nothing to do")
	require.NoError(t, p.Repack(t.Context(), rootsOf(pinned...), nil))
	log.Section("close")
	require.NoError(t, p.Close())
	golden(t, "repack.txt", kinds(log.String()))

	all := sections(t, b)
	require.Len(t, all, total)
	var first [][]byte
	for _, one := range pinned {
		first = append(first, values(one.blocks)...)
	}
	for i := range first {
		require.True(t, bytes.Equal(first[i], all[i]), "block %d of the pinned ones", i)
	}
	for _, one := range others {
		requireInOrder(t, all, one)
	}
	p = s.open(t)
	for _, one := range append(pinned, others...) {
		requireAll(t, p, one.blocks)
	}
}

// TestRepackOfWhatIsShared: a block that several others link to is taken once, where it is read first.
func TestRepackOfWhatIsShared(t *testing.T) {
	b := mem.New()
	shared := fileOf(t, 1, 5, 1, 1000)
	zeros := leaf(t, 9, 1000)
	one := over(t, leaf(t, 2, 1000), shared, zeros, zeros, zeros)
	two := over(t, shared, leaf(t, 3, 1000), zeros, one)
	absent := over(t, leaf(t, 4, 1000), leaf(t, 5, 1000))
	scatter(t, b, one, two)
	putObject(t, b, "root"+absent.blocks[0].key.String(), absent.blocks[0].value)
	p := newSite(b).open(t)
	require.NoError(t, p.Repack(t.Context(), nil, nil))
	require.Zero(t, p.stat().Index.LooseBlocks)
	all := sections(t, b)
	seen := map[string]bool{}
	for _, data := range all {
		require.False(t, seen[string(data)])
		seen[string(data)] = true
	}
	at := slices.IndexFunc(all, func(data []byte) bool { return bytes.Equal(data, two.blocks[0].value) })
	require.True(t, bytes.Equal(shared.blocks[0].value, all[at+1]))
	require.True(t, bytes.Equal(shared.blocks[5].value, all[at+6]))
	for _, one := range []tree{one, two} {
		requireAll(t, p, one.blocks)
	}
}

// TestRepackGoesOn: broken off anywhere, nothing is lost, nothing stays behind, and no object of a pack that is done is read again.
func TestRepackGoesOn(t *testing.T) {
	b := mem.New()
	log := &recorded.Log{}
	one := fileOf(t, 1, 20, 2, 3000)
	scatter(t, b, one)
	s := newSite(recorded.Wrap(b, log))
	s.c.PackSize = 100_000
	p := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := p.Repack(ctx, rootsOf(one), func(p Progress) {
		if p.Packs == 5 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	left := p.stat().Index.LooseBlocks
	require.Positive(t, left)
	require.Equal(t, int(left), len(objects(t, b))-1-packsIn(t, b), "what is in packs has no object any more")
	requireAll(t, p, one.blocks)
	log.Section("gone on with")
	require.NoError(t, p.repackLoose(t.Context(), rootsOf(one), func(Progress) {}))
	_, after, _ := strings.Cut(log.String(), "# gone on with\n")
	require.LessOrEqual(t, strings.Count(after, "get "), int(left)+1)
	require.Zero(t, p.stat().Index.LooseBlocks)
	requireAll(t, p, one.blocks)
	require.NoError(t, p.Close())
	fresh := newSite(b).open(t)
	requireAll(t, fresh, one.blocks)
}

// TestRepackInLittleMemory: the least that the settings allow keeps no small blocks, which are read twice then; their order is as good.
func TestRepackInLittleMemory(t *testing.T) {
	b := mem.New()
	log := &recorded.Log{}
	one, two := fileOf(t, 1, 12, 2, 2000), fileOf(t, 2, 20, 1, 262_144)
	scatter(t, b, one, two)
	s := newSite(recorded.Wrap(b, log))
	s.c.PackSize = 16 << 20
	s.c.Memory = s.c.minMemory()
	ahead, linked, kept := s.c.repackMemory()
	require.Zero(t, kept)
	require.LessOrEqual(t, s.c.PackSize+ahead+linked+pack.MaxSection, s.c.Memory/2)
	p := s.open(t)
	log.Section("repack")
	require.NoError(t, p.Repack(t.Context(), nil, nil))
	_, after, _ := strings.Cut(log.String(), "# repack\n")
	small := len(one.blocks) + 1 // and the root of the other
	require.Equal(t, 2*small+20, strings.Count(after, "get "))
	all := sections(t, b)
	requireInOrder(t, all, one)
	requireInOrder(t, all, two)
	requireAll(t, p, one.blocks)
}

// TestRepackLeavesDamagedBlocksWhereTheyAre.
func TestRepackLeavesDamagedBlocksWhereTheyAre(t *testing.T) {
	b := mem.New()
	one := fileOf(t, 1, 10, 1, 1000)
	scatter(t, b, one)
	bad := "root" + one.blocks[4].key.String()
	spoil(t, b, bad, 7)
	p := newSite(b).open(t)
	require.NoError(t, p.Repack(t.Context(), nil, nil))
	require.EqualValues(t, 1, p.stat().Index.LooseBlocks)
	require.Contains(t, objects(t, b), bad)
	_, err := p.Get(t.Context(), one.blocks[4].key)
	require.ErrorIs(t, err, ErrCorrupt)
	requireAll(t, p, slices.Concat(one.blocks[:4], one.blocks[5:]))
}

func TestFilterKnowsAllAndFewOthers(t *testing.T) {
	f := make(filter, 1000*10/64)
	for i := range 1000 {
		key, _ := block(t, fmt.Appendf(nil, "member %d", i), mh.SHA2_256)
		n, _ := nameOf(key)
		f.add(n)
		require.True(t, f.has(n))
	}
	wrong := 0
	for i := range 10_000 {
		key, _ := block(t, fmt.Appendf(nil, "other %d", i), mh.SHA2_256)
		if n, _ := nameOf(key); f.has(n) {
			wrong++
		}
	}
	require.Less(t, wrong, 250, "one in 85 is what 10 bits per block promise")
	f.add(nil)
	f.add([]byte{1})
}
