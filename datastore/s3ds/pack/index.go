package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sort"

	mh "github.com/multiformats/go-multihash"
	"github.com/multiformats/go-varint"
)

const (
	// indexCodec is the multicodec of multihash-index-sorted. As a uvarint it
	// takes two bytes.
	indexCodec = 0x0401

	// MaxIndex bounds an index in bytes. At 32 MiB for a 32 MiB pack it is six
	// times what a journal with its default limits can make (131,072 blocks of
	// 40 bytes each), and bounds what a reader of a foreign bucket allocates.
	MaxIndex = 32 << 20

	// minIndex: codec, one hash function of one width with one empty digest.
	minIndex = 2 + 4 + (8 + 4) + (4 + 8) + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func indexCRC(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// An Entry says where in a pack a block is.
type Entry struct {
	Multihash mh.Multihash
	Offset    int64 // of the section from the start of the pack, in bytes
	Length    int64 // of the section, in bytes
}

// DataLen is the size of the block in bytes.
func (e Entry) DataLen() int64 {
	payload, _ := payloadOf(e.Length)
	return payload - 2 - int64(len(e.Multihash))
}

// payloadOf takes the length prefix off a section's length. Lengths that no
// section can have (129, for one: 127 takes one byte of prefix, 128 two) are
// not ok.
func payloadOf(length int64) (payload int64, ok bool) {
	for n := int64(1); n <= 4; n++ {
		if p := length - n; p >= 0 && varint.UvarintSize(uint64(p)) == int(n) {
			return p, true
		}
	}
	return 0, false
}

// indexBuilder gathers records while a pack grows. It keeps them as the bytes
// that they will be in the file, grouped by hash function and width, so memory
// is the size of the index.
type indexBuilder struct {
	groups map[indexGroup][]byte
	blocks int
	size   int64 // of the index as encoded, in bytes
}

type indexGroup struct {
	code  uint64
	width uint32 // bytes of digest and offset
}

func (x *indexBuilder) add(h mh.Multihash, offset int64) error {
	code, digest, _, err := decodeMultihash(h)
	if err != nil {
		return fmt.Errorf("multihash %x: %w", []byte(h), err)
	}
	if x.groups == nil {
		x.groups = make(map[indexGroup][]byte)
		x.size = 2 + 4
	}
	g := indexGroup{code, uint32(len(digest) + 8)}
	recs, ok := x.groups[g]
	if !ok {
		x.size += 8 + 4 + 4 + 8 // as if the hash function were new, too: an upper bound
	}
	recs = append(recs, digest...)
	recs = binary.LittleEndian.AppendUint64(recs, uint64(offset-DataOffset))
	x.groups[g] = recs
	x.blocks++
	x.size += int64(g.width)
	return nil
}

// writeTo sorts the records and writes the index.
func (x *indexBuilder) writeTo(w io.Writer) error {
	groups := make([]indexGroup, 0, len(x.groups))
	widths := make(map[uint64]uint32) // how many, by code
	for g := range x.groups {
		groups = append(groups, g)
		widths[g.code]++
	}
	slices.SortFunc(groups, func(a, b indexGroup) int {
		if a.code != b.code {
			return compareUint(a.code, b.code)
		}
		return compareUint(uint64(a.width), uint64(b.width))
	})
	b := varint.ToUvarint(indexCodec)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(widths)))
	for i, g := range groups {
		if i == 0 || groups[i-1].code != g.code {
			b = binary.LittleEndian.AppendUint64(b, g.code)
			b = binary.LittleEndian.AppendUint32(b, widths[g.code])
		}
		recs := x.groups[g]
		b = binary.LittleEndian.AppendUint32(b, g.width)
		b = binary.LittleEndian.AppendUint64(b, uint64(len(recs)))
		if _, err := w.Write(b); err != nil {
			return err
		}
		b = b[:0]
		sort.Sort(newRecords(recs, int(g.width)))
		if _, err := w.Write(recs); err != nil {
			return err
		}
	}
	return nil
}

func compareUint(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// records sorts fixed-width records in place, by digest and then by offset.
type records struct {
	b     []byte
	width int
	tmp   []byte
}

func newRecords(b []byte, width int) records { return records{b, width, make([]byte, width)} }

func (r records) at(i int) []byte    { return r.b[i*r.width : (i+1)*r.width] }
func (r records) Len() int           { return len(r.b) / r.width }
func (r records) Less(i, j int) bool { return compareRecords(r.at(i), r.at(j)) < 0 }
func (r records) Swap(i, j int) {
	copy(r.tmp, r.at(i))
	copy(r.at(i), r.at(j))
	copy(r.at(j), r.tmp)
}

func compareRecords(a, b []byte) int {
	n := len(a) - 8
	if c := bytes.Compare(a[:n], b[:n]); c != 0 {
		return c
	}
	return compareUint(binary.LittleEndian.Uint64(a[n:]), binary.LittleEndian.Uint64(b[n:]))
}

// DecodeIndex decodes the index of a pack in which it starts at indexOffset,
// and returns its entries by rising offset. It takes only what this package
// would have written: every group and record in its place, sections that tile
// the pack from the first byte to the index, and nothing after the end. Memory
// is at most a small multiple of len(b). Errors match [ErrCorrupt].
//
// [Name.DecodeIndex] checks the checksum, too, and is what readers of a bucket
// want.
func DecodeIndex(b []byte, indexOffset int64) ([]Entry, error) {
	if len(b) > MaxIndex {
		return nil, fmt.Errorf("%w: index of %d bytes, more than %d", ErrCorrupt, len(b), MaxIndex)
	}
	d := indexDecoder{b: b}
	entries := d.decode()
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes follow the index", len(d.b))
	}
	if d.err == nil {
		d.tile(entries, indexOffset)
	}
	if d.err != nil {
		return nil, fmt.Errorf("%w: index: %w", ErrCorrupt, d.err)
	}
	return entries, nil
}

type indexDecoder struct {
	b   []byte
	err error
}

func (d *indexDecoder) fail(format string, a ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, a...)
	}
}

func (d *indexDecoder) take(n uint64) []byte {
	if d.err != nil || n > uint64(len(d.b)) {
		d.fail("%w", io.ErrUnexpectedEOF)
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *indexDecoder) uint32() uint32 {
	if p := d.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *indexDecoder) uint64() uint64 {
	if p := d.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (d *indexDecoder) decode() []Entry {
	codec, n, err := decodeUvarint(d.b)
	if err != nil || codec != indexCodec {
		d.fail("it is not of codec 0x%04x", indexCodec)
		return nil
	}
	d.b = d.b[n:]
	var entries []Entry
	prevCode := uint64(0)
	for i, codes := uint32(0), d.uint32(); i < codes && d.err == nil; i++ {
		code := d.uint64()
		if i > 0 && code <= prevCode {
			d.fail("hash functions are out of order")
		}
		if code > varint.MaxValueUvarint63 {
			d.fail("hash function 0x%x is out of range", code)
		}
		prevCode = code
		prevWidth, widths := uint32(0), d.uint32()
		if widths == 0 {
			d.fail("hash function 0x%x has no records", code)
		}
		for ; widths > 0 && d.err == nil; widths-- {
			width := d.uint32()
			if width <= prevWidth {
				d.fail("widths of hash function 0x%x are out of order", code)
			}
			prevWidth = width
			entries = d.group(entries, code, width)
		}
	}
	return entries
}

// group appends the entries of one hash function and width. Their Offset is
// still that of the file, their Length not yet known.
func (d *indexDecoder) group(entries []Entry, code uint64, width uint32) []Entry {
	size := d.uint64()
	if width < 8 || width > 8+MaxDigest {
		d.fail("width %d is out of range", width)
		return nil
	}
	w := int(width)
	if size == 0 || size%uint64(width) != 0 {
		d.fail("%d bytes are not records of %d", size, width)
		return nil
	}
	recs := newRecords(d.take(size), w)
	if d.err != nil {
		return nil
	}
	head := append(varint.ToUvarint(code), varint.ToUvarint(uint64(w-8))...)
	hashes := make([]byte, 0, recs.Len()*(len(head)+w-8)) // one allocation for all
	entries = slices.Grow(entries, recs.Len())
	for i := range recs.Len() {
		rec := recs.at(i)
		if i > 0 && compareRecords(recs.at(i-1), rec) >= 0 {
			d.fail("records are out of order")
			return nil
		}
		off := binary.LittleEndian.Uint64(rec[w-8:])
		if off > maxIndexOffset {
			d.fail("offset %d is out of range", off)
			return nil
		}
		start := len(hashes)
		hashes = append(append(hashes, head...), rec[:w-8]...)
		entries = append(entries, Entry{
			Multihash: mh.Multihash(hashes[start:len(hashes):len(hashes)]),
			Offset:    int64(off) + DataOffset,
		})
	}
	return entries
}

// tile sorts the entries by offset and derives their lengths.
func (d *indexDecoder) tile(entries []Entry, indexOffset int64) {
	if len(entries) == 0 {
		d.err = errors.New("it has no records")
		return
	}
	slices.SortFunc(entries, func(a, b Entry) int { return compareUint(uint64(a.Offset), uint64(b.Offset)) })
	if entries[0].Offset != FirstSection {
		d.fail("the first section is at byte %d and not %d", entries[0].Offset, FirstSection)
		return
	}
	for i := range entries {
		e := &entries[i]
		end := indexOffset
		if i+1 < len(entries) {
			end = entries[i+1].Offset
		}
		e.Length = end - e.Offset
		payload, ok := payloadOf(e.Length)
		if !ok || payload > MaxSection || payload < 2+int64(len(e.Multihash)) {
			d.fail("section at byte %d cannot have %d bytes", e.Offset, e.Length)
			return
		}
	}
}
