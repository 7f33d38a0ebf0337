package pack

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	mh "github.com/multiformats/go-multihash"
	_ "github.com/multiformats/go-multihash/register/all" // every hash that kubo may store
	"github.com/multiformats/go-varint"
)

const (
	// MaxSection bounds what follows a section's length prefix: CID and data,
	// in bytes. It is the bound at which go-car stops reading, and four times
	// the largest block that kubo exchanges (2 MiB).
	MaxSection = 8 << 20

	// MaxSectionLen bounds a section with its length prefix, in bytes: what a
	// buffer must hold to decode any section.
	MaxSectionLen = MaxSection + 4 // a length up to 2^23 takes 4 bytes

	// MaxDigest is the longest digest in bytes: that of kubo's longest
	// identity hash. No other function that kubo knows reaches it.
	MaxDigest = 128

	// MinDigest is the shortest digest in bytes of anything but an identity
	// hash. Shorter ones prove nothing: one flipped bit can make 32 bytes 0,
	// and then any data would verify. Kubo itself wants 20.
	MinDigest = 8

	// MaxHeader bounds length prefix, CID version, codec and multihash: what
	// must be read to know what a section holds, in bytes.
	MaxHeader = 4 + 2 + 9 + 2 + MaxDigest
)

// A Block is what a store keeps: bytes, and the multihash they are known by.
type Block struct {
	Multihash mh.Multihash
	Data      []byte
}

// A Section is a block as it stands in a pack.
type Section struct {
	Multihash mh.Multihash
	Data      []byte
	Offset    int64 // of the section from the start of the file, in bytes
	Length    int64 // of the whole section, length prefix included, in bytes
}

// SectionLen returns the length in bytes of the section that holds a block of
// dataLen bytes, and how it is refused: [ErrTooLarge], [ErrUnknownHash], or an
// error about the multihash itself.
func SectionLen(h mh.Multihash, dataLen int) (int64, error) {
	code, _, n, err := decodeMultihash(h)
	if err == nil && n != len(h) {
		err = errors.New("bytes follow it")
	}
	if err != nil {
		return 0, fmt.Errorf("multihash %x: %w", []byte(h), err)
	}
	if _, ok := mh.DefaultLengths[code]; !ok {
		return 0, fmt.Errorf("multihash %x: %w 0x%x", []byte(h), ErrUnknownHash, code)
	}
	payload := 2 + len(h) + dataLen
	if payload > MaxSection {
		return 0, fmt.Errorf("block of %d bytes: %w: at most %d fit", dataLen, ErrTooLarge, MaxSection-2-len(h))
	}
	return int64(varint.UvarintSize(uint64(payload)) + payload), nil
}

// AppendSection appends the section of a block to dst. It does not verify the
// block; errors are those of [SectionLen].
func AppendSection(dst []byte, b Block) ([]byte, error) {
	if _, err := SectionLen(b.Multihash, len(b.Data)); err != nil {
		return dst, err
	}
	dst = append(dst, varint.ToUvarint(uint64(2+len(b.Multihash)+len(b.Data)))...)
	dst = append(dst, cidVersion, cidRaw)
	dst = append(dst, b.Multihash...)
	return append(dst, b.Data...), nil
}

const (
	cidVersion = 0x01
	cidRaw     = 0x55
)

// DecodeSection decodes the section at the start of b, which may be longer.
// The result points into b; its Offset is 0. The block is not verified: see
// [Verify]. Errors match [ErrCorrupt]; a section that b ends in the middle of
// also matches [io.ErrUnexpectedEOF].
func DecodeSection(b []byte) (Section, error) {
	h, err := DecodeHeader(b)
	if err != nil {
		return Section{}, err
	}
	if int64(len(b)) < h.Length {
		return Section{}, fmt.Errorf("%w: section of %d bytes ends after %d: %w", ErrCorrupt, h.Length, len(b), io.ErrUnexpectedEOF)
	}
	return Section{
		Multihash: h.Multihash,
		Data:      b[h.DataStart:h.Length:h.Length],
		Length:    h.Length,
	}, nil
}

// A Header is the part of a section that comes before the data.
type Header struct {
	Multihash mh.Multihash
	DataStart int   // bytes from the start of the section to the data
	Length    int64 // of the whole section, in bytes
}

// DataLen is the size of the block in bytes.
func (h Header) DataLen() int64 { return h.Length - int64(h.DataStart) }

// DecodeHeader decodes the header of the section at the start of b, of which
// b need not hold the data. Errors are those of [DecodeSection].
func DecodeHeader(b []byte) (Header, error) {
	payload, n, err := decodeUvarint(b)
	if err != nil {
		return Header{}, fmt.Errorf("%w: length of section: %w", ErrCorrupt, err)
	}
	if payload > MaxSection {
		return Header{}, fmt.Errorf("%w: section claims %d bytes, more than %d", ErrCorrupt, payload, MaxSection)
	}
	if payload < minPayload {
		return Header{}, fmt.Errorf("%w: section claims %d bytes, too few for a CID", ErrCorrupt, payload)
	}
	c := b[n:]
	whole := uint64(len(c)) >= payload
	if whole {
		c = c[:payload]
	}
	start := n
	if len(c) >= 2 && (c[0] != cidVersion || c[1] != cidRaw) {
		return Header{}, fmt.Errorf("%w: section does not begin with a CIDv1 of codec raw", ErrCorrupt)
	}
	if len(c) < 2 {
		return Header{}, fmt.Errorf("%w: CID of section: %w", ErrCorrupt, io.ErrUnexpectedEOF)
	}
	_, _, hlen, err := decodeMultihash(c[2:])
	if err != nil {
		if whole && errors.Is(err, io.ErrUnexpectedEOF) {
			return Header{}, fmt.Errorf("%w: multihash is longer than its section", ErrCorrupt)
		}
		return Header{}, fmt.Errorf("%w: multihash of section: %w", ErrCorrupt, err)
	}
	start += 2 + hlen
	length := int64(n) + int64(payload)
	if int64(start) > length {
		return Header{}, fmt.Errorf("%w: multihash is longer than its section", ErrCorrupt)
	}
	return Header{Multihash: mh.Multihash(c[2 : 2+hlen : 2+hlen]), DataStart: start, Length: length}, nil
}

// minPayload: CID version, codec, and a multihash of an empty digest.
const minPayload = 2 + 2

// Verify hashes data and compares it with h. The error matches [ErrCorrupt]
// when they differ and [ErrUnknownHash] when this build cannot tell.
func Verify(h mh.Multihash, data []byte) error {
	code, digest, n, err := decodeMultihash(h)
	if err == nil && n != len(h) {
		err = errors.New("bytes follow it")
	}
	if err != nil {
		return fmt.Errorf("multihash %x: %w: %w", []byte(h), ErrCorrupt, err)
	}
	if code == mh.IDENTITY {
		if !bytes.Equal(digest, data) {
			return fmt.Errorf("%w: data is not what its identity hash says", ErrCorrupt)
		}
		return nil
	}
	sum, err := mh.Sum(data, code, len(digest))
	switch {
	case errors.Is(err, mh.ErrSumNotSupported):
		return fmt.Errorf("multihash %x: %w 0x%x", []byte(h), ErrUnknownHash, code)
	case err != nil:
		return fmt.Errorf("multihash %x: %w: %w", []byte(h), ErrCorrupt, err)
	case !bytes.Equal(sum, h):
		return fmt.Errorf("%w: data hashes to %s", ErrCorrupt, sum.HexString())
	}
	return nil
}
