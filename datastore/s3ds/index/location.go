package index

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Kind says in what a block lies.
type Kind uint8

// The places of a block. The numbers are part of the format.
const (
	// Journal: a segment of the local journal, not uploaded yet.
	Journal Kind = 1
	// InPack: a pack in the bucket.
	InPack Kind = 2
	// Loose: an object of its own in the bucket, whose name follows from the key.
	Loose Kind = 3
)

func (k Kind) String() string {
	switch k {
	case Journal:
		return "journal"
	case InPack:
		return "pack"
	case Loose:
		return "loose"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// PackID is the short name of a pack inside one index: 1, 2, 3… in the order in which packs were added. It means nothing
// outside of it, and is not reused.
type PackID uint64

// Location is where the bytes of a block are.
type Location struct {
	Kind    Kind
	Segment uint64 // the journal's segment, of a block in the Journal
	Pack    PackID // of a block InPack
	Offset  int64  // of the block's first byte in segment or pack; 0 for a Loose block
	Length  int64  // bytes of the block: what GetSize answers
}

// Entry is a key and where its block is. The key is the binary multihash of a block; the index does not look inside,
// so any name of 1 to MaxKey bytes is as good.
type Entry struct {
	Key []byte
	Location
}

// MaxKey is the longest key, in bytes. A multihash of 512 bits has 66; the rest is for names of loose objects.
const MaxKey = 1024

// maxValue is the longest encoding of a Location: the kind and three varints.
const maxValue = 1 + 3*binary.MaxVarintLen64

// appendLocation encodes l:
//
//	kind byte | uvarint segment or pack | uvarint offset | uvarint length
//
// where a loose block has the length only. A block of 256 KiB in one of the first 16,384 packs takes 1+2+4+3 = 10 bytes.
func appendLocation(b []byte, l Location) []byte {
	b = append(b, byte(l.Kind))
	switch l.Kind {
	case Journal:
		b = binary.AppendUvarint(b, l.Segment)
		b = binary.AppendUvarint(b, uint64(l.Offset))
	case InPack:
		b = binary.AppendUvarint(b, uint64(l.Pack))
		b = binary.AppendUvarint(b, uint64(l.Offset))
	}
	return binary.AppendUvarint(b, uint64(l.Length))
}

// decodeLocation is the inverse of appendLocation. It takes nothing else: every Location has one encoding.
func decodeLocation(b []byte) (Location, error) {
	if len(b) == 0 || len(b) > maxValue {
		return Location{}, fmt.Errorf("location of %d bytes", len(b))
	}
	l, r := Location{Kind: Kind(b[0])}, varints{b: b[1:]}
	switch l.Kind {
	case Journal:
		l.Segment = r.uint64()
		l.Offset = r.int64()
	case InPack:
		l.Pack = PackID(r.uint64())
		l.Offset = r.int64()
	case Loose:
	default:
		return Location{}, fmt.Errorf("location of unknown kind %d", b[0])
	}
	l.Length = r.int64()
	if err := r.end(); err != nil {
		return Location{}, fmt.Errorf("location %x: %w", b, err)
	}
	if err := l.check(); err != nil {
		return Location{}, err
	}
	return l, nil
}

// check refuses what no block can have.
func (l Location) check() error {
	switch {
	case l.Kind != Journal && l.Kind != InPack && l.Kind != Loose:
		return fmt.Errorf("location of unknown kind %d", uint8(l.Kind))
	case l.Offset < 0 || l.Length < 0 || l.Offset > math.MaxInt64-l.Length:
		return fmt.Errorf("location at %d with %d bytes is out of range", l.Offset, l.Length)
	case l.Kind == InPack && l.Pack == 0:
		return fmt.Errorf("location in pack 0, which does not exist")
	case l.Kind != InPack && l.Pack != 0, l.Kind != Journal && l.Segment != 0, l.Kind == Loose && l.Offset != 0:
		return fmt.Errorf("location of kind %s names parts that it has not", l.Kind)
	}
	return nil
}

// varints reads unsigned varints, each in its shortest form, and remembers the first thing that was wrong.
type varints struct {
	b   []byte
	err error
}

func (r *varints) uint64() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	switch {
	case n <= 0:
		r.err = fmt.Errorf("number is cut short or too large")
		return 0
	case n > 1 && r.b[n-1] == 0:
		r.err = fmt.Errorf("number is longer than it has to be")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *varints) int64() int64 {
	v := r.uint64()
	if v > math.MaxInt64 && r.err == nil {
		r.err = fmt.Errorf("number %d is too large", v)
		return 0
	}
	return int64(v)
}

// bytes reads a length and as many bytes, at most limit.
func (r *varints) bytes(limit int) []byte {
	n := r.uint64()
	if r.err == nil && (n > uint64(limit) || n > uint64(len(r.b))) {
		r.err = fmt.Errorf("text of %d bytes is cut short or too long", n)
	}
	if r.err != nil {
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *varints) end() error {
	if r.err == nil && len(r.b) > 0 {
		return fmt.Errorf("%d bytes too many", len(r.b))
	}
	return r.err
}
