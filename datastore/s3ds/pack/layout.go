package pack

import (
	"encoding/binary"
	"fmt"
)

const (
	// DataOffset is where the CARv1 inside a pack starts, in bytes. Always:
	// a reader that has only the index must know it.
	DataOffset = pragmaSize + headerSize

	// FirstSection is where the first section of a pack starts, in bytes.
	FirstSection = DataOffset + carv1Size

	pragmaSize = 11
	headerSize = 40
	carv1Size  = 18
)

const (
	// pragma of a CARv2: a CARv1 header {"version": 2} with its length.
	pragma = "\x0a\xa1\x67version\x02"
	// carv1Header: {"roots": [], "version": 1} in DAG-CBOR with its length.
	carv1Header = "\x11\xa2\x65roots\x80\x67version\x01"
)

// Prologue returns the bytes before the first section of a pack in which the
// index starts at indexOffset. 0 stands for a pack that is still growing: its
// data size and index offset are 0, and no reader of CARv2 takes it for whole.
func Prologue(indexOffset int64) []byte {
	b := make([]byte, 0, FirstSection)
	b = append(b, pragma...)
	b = append(b, make([]byte, 16)...) // characteristics
	b = binary.LittleEndian.AppendUint64(b, DataOffset)
	dataSize := uint64(0)
	if indexOffset != 0 {
		dataSize = uint64(indexOffset) - DataOffset
	}
	b = binary.LittleEndian.AppendUint64(b, dataSize)
	b = binary.LittleEndian.AppendUint64(b, uint64(indexOffset))
	return append(b, carv1Header...)
}

// decodePrologue returns where the index starts, 0 in a pack that was not
// sealed. Anything that [Prologue] would not have written matches [ErrCorrupt].
func decodePrologue(b []byte) (indexOffset int64, err error) {
	if len(b) != FirstSection {
		return 0, fmt.Errorf("%w: only %d bytes", ErrCorrupt, len(b))
	}
	off := binary.LittleEndian.Uint64(b[pragmaSize+32:])
	if off > maxIndexOffset || string(b) != string(Prologue(int64(off))) {
		return 0, fmt.Errorf("%w: it does not begin as a pack does", ErrCorrupt)
	}
	return int64(off), nil
}
