package pack

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// Ext ends the name of every pack.
	Ext = ".car"
	// extNodes ends the name of a pack of nodes.
	extNodes = ".nodes" + Ext

	// MaxWriter is the greatest length of a writer's id, in bytes.
	MaxWriter = 32

	maxIndexOffset = 1<<48 - 1 // 12 hexadecimal digits: 256 TiB, beyond any object
)

// A Name is the name of a pack, in the bucket and on disk. It holds all that a
// reader needs to fetch and check the index with one ranged read, given the
// size of the file:
//
//	018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car
//	│            │     │            └ CRC-32C of the index
//	│            │     └ offset of the index, in bytes
//	│            └ writer
//	└ ID: when the pack was begun
//
// A pack of nodes ends in .nodes.car. Numbers are lower-case hexadecimal of
// fixed width, so names sort by ID.
type Name struct {
	ID          ID
	Writer      string // 1 to MaxWriter characters of a-z and 0-9
	IndexOffset int64  // bytes from the start of the pack
	IndexCRC    uint32 // CRC-32C (Castagnoli) of the bytes of the index
	// Nodes: the blocks are all inner nodes of DAGs, gathered from other packs.
	// Who reads one of them soon reads those around it.
	Nodes bool
}

// IsNodes reports whether a name is that of a pack of nodes.
func IsNodes(name string) bool { return strings.HasSuffix(name, extNodes) }

// CheckWriter tells what is wrong with a writer's id, nil if nothing is.
func CheckWriter(w string) error {
	if len(w) < 1 || len(w) > MaxWriter {
		return fmt.Errorf("writer id %q has %d characters: use 1 to %d of a-z and 0-9", w, len(w), MaxWriter)
	}
	for i := range len(w) {
		if c := w[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return fmt.Errorf("writer id %q holds %q: use 1 to %d of a-z and 0-9", w, c, MaxWriter)
		}
	}
	return nil
}

// String formats the name. It is the inverse of [ParseName].
func (n Name) String() string {
	ext := Ext
	if n.Nodes {
		ext = extNodes
	}
	return fmt.Sprintf("%s-%s-%012x-%08x%s", n.ID, n.Writer, n.IndexOffset, n.IndexCRC, ext)
}

// ParseName reads a name without folders in front. It takes nothing that
// [Name.String] would not have written.
func ParseName(s string) (Name, error) {
	fail := func(why string) (Name, error) {
		return Name{}, fmt.Errorf("%q is not the name of a pack: %s", s, why)
	}
	stem, ok := strings.CutSuffix(s, Ext)
	if !ok {
		return fail("it does not end in " + Ext)
	}
	stem, nodes := strings.CutSuffix(stem, strings.TrimSuffix(extNodes, Ext))
	f := strings.Split(stem, "-")
	if len(f) != 4 {
		return fail("it does not have the four parts id-writer-index-checksum")
	}
	id, err := ParseID(f[0])
	if err != nil {
		return fail(err.Error())
	}
	if err := CheckWriter(f[1]); err != nil {
		return fail(err.Error())
	}
	off, err := parseHex(f[2], 12)
	if err != nil {
		return fail("index offset: " + err.Error())
	}
	if off <= FirstSection {
		return fail("index offset: a pack holds at least one block")
	}
	crc, err := parseHex(f[3], 8)
	if err != nil {
		return fail("index checksum: " + err.Error())
	}
	return Name{ID: id, Writer: f[1], IndexOffset: int64(off), IndexCRC: uint32(crc), Nodes: nodes}, nil
}

// ParseID reads what [ID.String] wrote.
func ParseID(s string) (ID, error) {
	v, err := parseHex(s, 12)
	if err != nil {
		return 0, fmt.Errorf("id: %w", err)
	}
	return ID(v), nil
}

func parseHex(s string, width int) (uint64, error) {
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != width || strings.ToLower(s) != s {
		return 0, fmt.Errorf("want %d lower-case hexadecimal digits", width)
	}
	return v, nil
}

// IndexRange returns where the index stands in a pack of size bytes, for one
// ranged read. A size that the pack cannot have is an [ErrCorrupt]: the object
// was cut short, or is not a pack.
func (n Name) IndexRange(size int64) (offset, length int64, err error) {
	length = size - n.IndexOffset
	if length < minIndex || length > MaxIndex {
		return 0, 0, fmt.Errorf("pack %s of %d bytes cannot hold its index, which would be %d bytes: %w", n, size, length, ErrCorrupt)
	}
	return n.IndexOffset, length, nil
}

// DecodeIndex checks the bytes of the index against the checksum in the name
// and decodes them. Errors match [ErrCorrupt].
func (n Name) DecodeIndex(b []byte) ([]Entry, error) {
	if crc := indexCRC(b); crc != n.IndexCRC {
		return nil, fmt.Errorf("index of pack %s has checksum %08x: %w", n, crc, ErrCorrupt)
	}
	entries, err := DecodeIndex(b, n.IndexOffset)
	if err != nil {
		return nil, fmt.Errorf("index of pack %s: %w", n, err)
	}
	return entries, nil
}

// check tells what is wrong with a name that was put together by hand.
func (n Name) check() error {
	if err := CheckWriter(n.Writer); err != nil {
		return err
	}
	if n.ID > MaxID {
		return fmt.Errorf("pack id %d is too large", uint64(n.ID))
	}
	if n.IndexOffset > maxIndexOffset {
		return errors.New("pack is too large for its name")
	}
	return nil
}
