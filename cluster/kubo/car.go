package kubo

import (
	"encoding/binary"
	"io"

	"github.com/ipfs/go-cid"
)

// CAR reads as a CARv1 file whose blocks come one after the other, without
// copying them together. Its header names the first block as root, because a
// header must name one. It is not safe for concurrent use.
type CAR struct {
	next    func() (Block, bool)
	pending [][]byte // what of the header or the current section is not read
	blocks  int
}

// NewCAR returns a CAR of the blocks that next returns until it returns false,
// or nil if there is none. It waits for the first one.
func NewCAR(next func() (Block, bool)) *CAR {
	first, ok := next()
	if !ok {
		return nil
	}
	c := &CAR{next: next, pending: [][]byte{carHeader(first.Cid)}}
	c.add(first)
	return c
}

// Blocks is how many blocks were taken from next.
func (c *CAR) Blocks() int { return c.blocks }

// add queues a section: its length as an unsigned varint, the CID, the data.
func (c *CAR) add(b Block) {
	id := b.Cid.Bytes()
	head := append(binary.AppendUvarint(nil, uint64(len(id)+len(b.Data))), id...)
	c.pending = append(c.pending, head, b.Data)
	c.blocks++
}

// Read fills p as far as it can; it waits for further blocks.
func (c *CAR) Read(p []byte) (n int, err error) {
	for n < len(p) {
		for len(c.pending) > 0 && len(c.pending[0]) == 0 {
			c.pending = c.pending[1:]
		}
		if len(c.pending) == 0 {
			c.pending = nil // let go of the array
			b, ok := c.next()
			if !ok {
				c.next = func() (Block, bool) { return Block{}, false }
				if n == 0 {
					return 0, io.EOF
				}
				return n, nil
			}
			c.add(b)
		}
		copied := copy(p[n:], c.pending[0])
		c.pending[0] = c.pending[0][copied:]
		n += copied
	}
	return n, nil
}

// carHeader is the header of a CARv1 file with one root: its length as an
// unsigned varint, then {"roots": [root], "version": 1} in DAG-CBOR, in which a
// CID is a byte string of a zero byte and its bytes, with tag 42.
func carHeader(root cid.Cid) []byte {
	id := root.Bytes()
	h := []byte{0xa2, 0x65, 'r', 'o', 'o', 't', 's', 0x81, 0xd8, 42}
	if n := len(id) + 1; n < 24 {
		h = append(h, 0x40|byte(n))
	} else if n < 1<<8 {
		h = append(h, 0x58, byte(n))
	} else {
		h = binary.BigEndian.AppendUint16(append(h, 0x59), uint16(n))
	}
	h = append(append(h, 0), id...)
	h = append(h, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 1)
	return append(binary.AppendUvarint(nil, uint64(len(h))), h...)
}
