package pack_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	car "github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/blockstore"
	carindex "github.com/ipld/go-car/v2/index"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// memFile is a file that grows as it is written.
type memFile struct{ b []byte }

func (m *memFile) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

func sum(t require.TestingT, data []byte, code uint64, length int) mh.Multihash {
	h, err := mh.Sum(data, code, length)
	require.NoError(t, err)
	return h
}

func blockOf(t require.TestingT, data []byte) pack.Block {
	return pack.Block{Multihash: sum(t, data, mh.SHA2_256, -1), Data: data}
}

// build packs blocks and returns the file, its name and the entries as appended.
func build(t require.TestingT, blocks ...pack.Block) ([]byte, pack.Name, []pack.Entry) {
	f := new(memFile)
	w := pack.NewWriter(f)
	var entries []pack.Entry
	for _, b := range blocks {
		e, err := w.Append(b)
		require.NoError(t, err)
		entries = append(entries, e)
	}
	bound := w.IndexSize()
	s, err := w.Seal(0x18bfa2e5c80, "n3k7q")
	require.NoError(t, err)
	require.Equal(t, int64(len(f.b)), s.Size)
	require.Equal(t, len(blocks), s.Blocks)
	require.LessOrEqual(t, s.Size-s.Name.IndexOffset, bound)
	return f.b, s.Name, entries
}

// everyHash holds one block for each way in which kubo may hash one.
func everyHash(t require.TestingT) []pack.Block {
	data := []byte("the same bytes under every name")
	var blocks []pack.Block
	for _, code := range slices.Sorted(func(yield func(uint64) bool) {
		for c, n := range mh.DefaultLengths {
			if (n >= pack.MinDigest || c == mh.IDENTITY) && !yield(c) {
				return
			}
		}
	}) {
		blocks = append(blocks, pack.Block{Multihash: sum(t, data, code, -1), Data: data})
	}
	require.Greater(t, len(blocks), 20)
	// Cut digests, as `block put --mhlen` makes them, share a function but not a width.
	return append(blocks, pack.Block{Multihash: sum(t, data, mh.SHA2_512, 20), Data: data})
}

func golden(t require.TestingT) []pack.Block {
	return []pack.Block{
		blockOf(t, []byte("hello")),
		blockOf(t, nil),
		{Multihash: sum(t, []byte("hello"), mh.BLAKE2B_MIN+31, -1), Data: []byte("hello")},
		blockOf(t, bytes.Repeat([]byte{0xab}, 300)),
		blockOf(t, []byte("hello")), // twice: two concurrent puts of one block
		{Multihash: sum(t, []byte("hello"), mh.SHA2_256, 20), Data: []byte("hello")},
	}
}

// The format is frozen: packs written today are read for ever.
func TestGolden(t *testing.T) {
	b, name, _ := build(t, golden(t)...)
	path := filepath.Join("testdata", name.String())
	if *rewrite {
		require.NoError(t, os.WriteFile(path, b, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "the name of the pack is part of the format")
	require.Equal(t, want, b)
}

func TestRoundTrip(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 2<<20/16)
	h := sum(t, nil, mh.SHA2_256, -1)
	largest := make([]byte, pack.MaxSection-2-len(h))
	for name, blocks := range map[string][]pack.Block{
		"one empty block":    {blockOf(t, nil)},
		"every hash":         everyHash(t),
		"golden":             golden(t),
		"2 MiB, 4 MiB":       {blockOf(t, big), blockOf(t, append(big, big...)), blockOf(t, []byte("small"))},
		"largest":            {blockOf(t, largest)},
		"around the lengths": sizes(t, 90, 95, 16384-40, 16384-30),
		"longest identity":   {{Multihash: sum(t, make([]byte, pack.MaxDigest), mh.IDENTITY, -1), Data: make([]byte, pack.MaxDigest)}},
	} {
		t.Run(name, func(t *testing.T) {
			b, name, entries := build(t, blocks...)
			check(t, b, name, entries, blocks)
		})
	}
}

// sizes makes a block of each length in two ranges, in which the length prefix
// of the section grows by a byte.
func sizes(t require.TestingT, from1, to1, from2, to2 int) []pack.Block {
	var blocks []pack.Block
	for _, r := range [][2]int{{from1, to1}, {from2, to2}} {
		for n := r[0]; n < r[1]; n++ {
			blocks = append(blocks, blockOf(t, bytes.Repeat([]byte{1}, n)))
		}
	}
	return blocks
}

// check reads a pack in each of the ways that there are.
func check(t require.TestingT, b []byte, name pack.Name, entries []pack.Entry, blocks []pack.Block) {
	require.NoError(t, pack.CheckHeader(bytes.NewReader(b), name))

	parsed, err := pack.ParseName(name.String())
	require.NoError(t, err)
	require.Equal(t, name, parsed)

	got, err := pack.ReadIndex(bytes.NewReader(b), name, int64(len(b)))
	require.NoError(t, err)
	require.Equal(t, entries, got)

	for i, e := range got {
		require.Equal(t, int64(len(blocks[i].Data)), e.DataLen())
		n, err := pack.SectionLen(blocks[i].Multihash, len(blocks[i].Data))
		require.NoError(t, err)
		require.Equal(t, e.Length, n)
		s, err := pack.DecodeSection(b[e.Offset:])
		require.NoError(t, err)
		require.Equal(t, e.Length, s.Length)
		require.Equal(t, blocks[i].Multihash, s.Multihash)
		require.True(t, bytes.Equal(blocks[i].Data, s.Data))
		require.NoError(t, pack.Verify(s.Multihash, s.Data))
	}

	i := 0
	for s, err := range pack.Sections(onlyReader{bytes.NewReader(b)}) {
		require.NoError(t, err)
		require.Equal(t, entries[i], pack.Entry{Multihash: s.Multihash, Offset: s.Offset, Length: s.Length})
		require.True(t, bytes.Equal(blocks[i].Data, s.Data))
		i++
	}
	require.Equal(t, len(blocks), i)
}

type onlyReader struct{ io.Reader }

// go-car is what the rest of the world reads CARs with.
func TestGoCarReadsPacks(t *testing.T) {
	blocks := append(everyHash(t), golden(t)...)
	b, name, entries := build(t, blocks...)

	r, err := car.NewBlockReader(onlyReader{bytes.NewReader(b)})
	require.NoError(t, err)
	require.EqualValues(t, 2, r.Version)
	require.Empty(t, r.Roots)
	for _, want := range blocks {
		got, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, cid.NewCidV1(cid.Raw, want.Multihash), got.Cid())
		require.True(t, bytes.Equal(want.Data, got.RawData()))
	}
	_, err = r.Next()
	require.ErrorIs(t, err, io.EOF)

	v2, err := car.NewReader(bytes.NewReader(b))
	require.NoError(t, err)
	stats, err := v2.Inspect(true)
	require.NoError(t, err)
	require.EqualValues(t, len(blocks), stats.BlockCount)
	require.EqualValues(t, 0x0401, stats.IndexCodec)

	bs, err := blockstore.NewReadOnly(bytes.NewReader(b), nil)
	require.NoError(t, err)
	for _, want := range blocks {
		got, err := bs.Get(t.Context(), cid.NewCidV1(cid.Raw, want.Multihash))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want.Data, got.RawData()))
	}

	idx, err := carindex.ReadFrom(bytes.NewReader(b[name.IndexOffset:]))
	require.NoError(t, err)
	for _, e := range entries {
		var offsets []int64
		require.NoError(t, idx.GetAll(cid.NewCidV1(cid.Raw, e.Multihash), func(off uint64) bool {
			offsets = append(offsets, int64(off)+pack.DataOffset)
			return true
		}))
		require.Contains(t, offsets, e.Offset)
	}
}

// Our index is the one that go-car writes, byte for byte.
func TestIndexIsGoCars(t *testing.T) {
	blocks := append(everyHash(t), sizes(t, 1, 300, 0, 0)...)
	b, name, entries := build(t, blocks...)
	theirs := carindex.NewMultihashSorted()
	var records []carindex.Record
	for _, e := range entries {
		records = append(records, carindex.Record{Cid: cid.NewCidV1(cid.Raw, e.Multihash), Offset: uint64(e.Offset - pack.DataOffset)})
	}
	require.NoError(t, theirs.Load(records))
	var want bytes.Buffer
	_, err := carindex.WriteTo(theirs, &want)
	require.NoError(t, err)
	require.Equal(t, want.Bytes(), b[name.IndexOffset:])
}

func TestRefusedBlocks(t *testing.T) {
	data := []byte("data")
	long, err := mh.Encode(make([]byte, pack.MaxDigest+1), mh.IDENTITY)
	require.NoError(t, err)
	unknown, err := mh.Encode(make([]byte, 32), 0x300001)
	require.NoError(t, err)
	h := sum(t, data, mh.SHA2_256, -1)
	f := new(memFile)
	w := pack.NewWriter(f)
	for name, c := range map[string]struct {
		b    pack.Block
		want error
	}{
		"data too long":      {pack.Block{Multihash: h, Data: make([]byte, pack.MaxSection-2-len(h)+1)}, pack.ErrTooLarge},
		"digest too long":    {pack.Block{Multihash: long, Data: data}, pack.ErrTooLarge},
		"unknown hash":       {pack.Block{Multihash: unknown, Data: data}, pack.ErrUnknownHash},
		"no multihash":       {pack.Block{Data: data}, io.ErrUnexpectedEOF},
		"multihash cut":      {pack.Block{Multihash: h[:20], Data: data}, io.ErrUnexpectedEOF},
		"digest too short":   {pack.Block{Multihash: mh.Multihash{mh.SHA2_256, 4, 1, 2, 3, 4}, Data: data}, nil},
		"more than one hash": {pack.Block{Multihash: append(slices.Clone(h), 1), Data: data}, nil},
	} {
		_, err := w.Append(c.b)
		require.Error(t, err, name)
		if c.want != nil {
			require.ErrorIs(t, err, c.want, name)
		}
	}
	_, err = w.Append(blockOf(t, data))
	require.NoError(t, err, "a refused block leaves the writer usable")
	s, err := w.Seal(1, "w")
	require.NoError(t, err)
	require.Equal(t, 1, s.Blocks)
	_, err = w.Append(blockOf(t, data))
	require.Error(t, err, "a sealed pack takes no more")
}

func TestSealRefuses(t *testing.T) {
	_, err := pack.NewWriter(new(memFile)).Seal(1, "w")
	require.ErrorIs(t, err, pack.ErrEmpty)
	for _, bad := range []string{"", "has-dash", "UPPER", "a/b", string(bytes.Repeat([]byte("a"), pack.MaxWriter+1))} {
		w := pack.NewWriter(new(memFile))
		_, err := w.Append(blockOf(t, nil))
		require.NoError(t, err)
		_, err = w.Seal(1, bad)
		require.ErrorContains(t, err, "writer id")
	}
}

type failingFile struct{ after int }

var errDisk = errors.New("disk on fire")

func (f *failingFile) WriteAt(p []byte, _ int64) (int, error) {
	if f.after--; f.after < 0 {
		return len(p) / 2, errDisk
	}
	return len(p), nil
}

// A pack that could not be written whole is never called sealed.
func TestWriterKeepsItsError(t *testing.T) {
	for after := range 4 { // flush, index head, records, header
		w := pack.NewWriter(&failingFile{after: after})
		_, err := w.Append(blockOf(t, []byte("x")))
		require.NoError(t, err)
		_, err = w.Seal(1, "w")
		require.ErrorIs(t, err, errDisk, "write %d", after)
		_, err = w.Append(blockOf(t, []byte("y")))
		require.Error(t, err)
	}
}

func TestVerify(t *testing.T) {
	for _, b := range everyHash(t) {
		require.NoError(t, pack.Verify(b.Multihash, b.Data))
		for i := range b.Data {
			d := slices.Clone(b.Data)
			d[i] ^= 4
			require.ErrorIs(t, pack.Verify(b.Multihash, d), pack.ErrCorrupt, "%x", []byte(b.Multihash))
		}
	}
	unknown, err := mh.Encode(make([]byte, 32), 0x300001)
	require.NoError(t, err)
	require.ErrorIs(t, pack.Verify(unknown, nil), pack.ErrUnknownHash)
	require.ErrorIs(t, pack.Verify(nil, nil), pack.ErrCorrupt)
}

// Whichever byte is damaged, it is noticed and no wrong block comes out.
func TestFlippedBits(t *testing.T) {
	blocks := golden(t)
	b, name, entries := build(t, blocks...)
	for i := range b {
		d := slices.Clone(b)
		d[i] ^= 1 << (i % 8)

		var got int
		var stop error
		for s, err := range pack.Sections(bytes.NewReader(d)) {
			if stop = err; err != nil {
				break
			}
			require.Equal(t, blocks[got].Multihash, s.Multihash)
			require.True(t, bytes.Equal(blocks[got].Data, s.Data))
			got++
		}
		_, indexErr := pack.ReadIndex(bytes.NewReader(d), name, int64(len(d)))
		headErr := pack.CheckHeader(bytes.NewReader(d), name)

		switch {
		case i < pack.FirstSection:
			require.ErrorIs(t, headErr, pack.ErrCorrupt, "byte %d", i)
			require.Error(t, stop, "byte %d", i)
		case int64(i) < name.IndexOffset:
			require.NoError(t, headErr)
			require.NoError(t, indexErr)
			at := slices.IndexFunc(entries, func(e pack.Entry) bool { return int64(i) < e.Offset+e.Length })
			require.Equal(t, at, got, "byte %d: sections before the damage", i)
			require.ErrorIs(t, stop, pack.ErrCorrupt, "byte %d", i)
			var named *pack.CorruptError
			if errors.As(stop, &named) {
				require.Equal(t, entries[at].Offset, named.Offset, "byte %d", i)
			}
		default:
			require.ErrorIs(t, indexErr, pack.ErrCorrupt, "byte %d", i)
		}
	}
}

// Whatever is missing at the end, it is noticed.
func TestCutShort(t *testing.T) {
	b, name, _ := build(t, golden(t)...)
	for n := range b {
		_, err := pack.ReadIndex(bytes.NewReader(b[:n]), name, int64(n))
		require.ErrorIs(t, err, pack.ErrCorrupt, "cut at %d", n)
		if int64(n) >= name.IndexOffset {
			continue // all sections are there
		}
		var last error
		for _, err := range pack.Sections(bytes.NewReader(b[:n])) {
			last = err
		}
		require.ErrorIs(t, last, pack.ErrCorrupt, "cut at %d", n)
	}
	_, err := pack.ReadIndex(bytes.NewReader(b[:len(b)-1]), name, int64(len(b)))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "the object is shorter than listed")
}

func TestNames(t *testing.T) {
	n := pack.Name{ID: 0x18bfa2e5c80, Writer: "n3k7q", IndexOffset: 0x20001a3, IndexCRC: 0x5bd3f6e2}
	require.Equal(t, "018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car", n.String())
	for _, bad := range []string{
		"", ".car", "018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2",
		"018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car.tmp",
		"18bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car",    // id too short
		"0018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car",  // id too long
		"018BFA2e5c80-n3k7q-0000020001a3-5bd3f6e2.car",   // upper case
		"+18bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car",   // sign
		"0x8bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car",   // base prefix
		"018bfa2e5c80--0000020001a3-5bd3f6e2.car",        // no writer
		"018bfa2e5c80-n3K7q-0000020001a3-5bd3f6e2.car",   // writer in upper case
		"018bfa2e5c80-n3-k7q-0000020001a3-5bd3f6e2.car",  // one part too many
		"018bfa2e5c80-n3k7q-000000000045-5bd3f6e2.car",   // no room for a block
		"018bfa2e5c80-n3k7q-0000020001a3-05bd3f6e2.car",  // checksum too long
		"x/018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car", // a folder
		"018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.nodes", // half of an extension
		"018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.nodes.nodes.car",
		"018bfa2e5c80-n3k7q-0000020001a3.nodes-5bd3f6e2.car",
	} {
		_, err := pack.ParseName(bad)
		require.ErrorContains(t, err, "not the name of a pack", bad)
	}
	require.False(t, pack.IsNodes(n.String()))
	n.Nodes = true
	require.Equal(t, "018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.nodes.car", n.String())
	require.True(t, pack.IsNodes(n.String()))
	parsed, err := pack.ParseName(n.String())
	require.NoError(t, err)
	require.Equal(t, n, parsed)
}

func TestNamesSortByID(t *testing.T) {
	ids := pack.NewIDs(0)
	var names []string
	for range 1000 { // many within one millisecond
		names = append(names, pack.Name{ID: ids.Next(), Writer: "w", IndexOffset: 100}.String())
	}
	require.True(t, slices.IsSorted(names))
	require.Len(t, slices.Compact(names), 1000)
	ids.See(pack.MaxID - 1)
	require.Equal(t, pack.MaxID, ids.Next(), "a clock that was set back does not give an ID twice")
}

func TestDecodeIndexRefuses(t *testing.T) {
	b, name, _ := build(t, golden(t)...)
	idx := b[name.IndexOffset:]
	for what, f := range map[string]func([]byte) []byte{
		"nothing":             func([]byte) []byte { return nil },
		"another codec":       func(x []byte) []byte { x[0] = 0x80; return x },
		"bytes after the end": func(x []byte) []byte { return append(x, 0) },
		"2^31 functions":      func(x []byte) []byte { x[5] = 0x80; return x },
		"2^31 widths":         func(x []byte) []byte { x[17] = 0x80; return x },
		"no functions":        func(x []byte) []byte { return append(x[:2:2], 0, 0, 0, 0) },
		"width 7":             func(x []byte) []byte { x[18] = 7; return x },
		"width 2^31":          func(x []byte) []byte { x[21] = 0x80; return x },
		"2^63 bytes":          func(x []byte) []byte { x[29] = 0x80; return x },
		"offset 2^63":         func(x []byte) []byte { x[30+20+7] = 0x80; return x },
	} {
		_, err := pack.DecodeIndex(f(slices.Clone(idx)), name.IndexOffset)
		require.ErrorIs(t, err, pack.ErrCorrupt, what)
	}
	for _, off := range []int64{-1, 0, pack.FirstSection, name.IndexOffset - 40, 1 << 62} {
		_, err := pack.DecodeIndex(idx, off)
		require.ErrorIs(t, err, pack.ErrCorrupt, "index at %d", off)
	}
}

func TestRandomPacks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		codes := []uint64{mh.SHA2_256, mh.SHA2_512, mh.BLAKE3, mh.SHA1, mh.IDENTITY}
		blocks := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) pack.Block {
			code := rapid.SampledFrom(codes).Draw(t, "code")
			most := 40_000
			if code == mh.IDENTITY {
				most = pack.MaxDigest
			}
			data := make([]byte, rapid.IntRange(0, most).Draw(t, "len"))
			rng := rand.New(rand.NewPCG(rapid.Uint64Range(0, 9).Draw(t, "seed"), 0))
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			return pack.Block{Multihash: sum(t, data, code, -1), Data: data}
		}), 1, 60).Draw(t, "blocks")
		b, name, entries := build(t, blocks...)
		check(t, b, name, entries, blocks)
	})
}

func ExampleName() {
	n, err := pack.ParseName("018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car")
	if err != nil {
		panic(err)
	}
	off, length, err := n.IndexRange(33559000) // size from the listing
	fmt.Println(n.Writer, n.ID.Time().UTC().Format("2006-01-02"), off, length, err)
	// Output: n3k7q 2023-11-23 33554851 4149 <nil>
}
