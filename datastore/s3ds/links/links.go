package links

import (
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// Codecs that have links, of https://github.com/multiformats/multicodec.
const (
	dagPB   = 0x70
	dagCBOR = 0x71
)

// Unknown as a codec means that it has to be guessed: a blockstore knows multihashes only.
const Unknown = 0

// Of returns the links of a block in the order in which they stand there; none if the block is not of that codec, or is not well-formed.
// Links with identity hashes are left out: they are their own block. Bytes that are no DAG pass for one only if all of them are fields or items
// that fit, with a CID in every link.
func Of(data []byte, codec uint64) []cid.Cid {
	switch codec {
	case dagPB:
		return ofPB(data)
	case dagCBOR:
		return ofCBOR(data)
	case Unknown:
		if found := ofPB(data); found != nil {
			return found
		}
		return ofCBOR(data)
	}
	return nil
}

// add appends the link in b to found; it reports false if b is not a CID and nothing else.
func add(found []cid.Cid, b []byte) ([]cid.Cid, bool) {
	n, c, err := cid.CidFromBytes(b)
	if err != nil || n != len(b) {
		return nil, false
	}
	if c.Prefix().MhType == mh.IDENTITY {
		return found, true
	}
	return append(found, c), true
}

// ofPB returns the links of a node.
func ofPB(data []byte) (found []cid.Cid) {
	n, _ := Parse(data)
	for _, l := range n.Links {
		if l.Cid.Prefix().MhType != mh.IDENTITY {
			found = append(found, l.Cid)
		}
	}
	return found
}

// ofCBOR reads one item of https://ipld.io/specs/codecs/dag-cbor/spec/, in which a link is a byte string of 0 and a CID under the tag 42.
func ofCBOR(data []byte) (found []cid.Cid) {
	rest := data
	linked := true
	for items := uint64(1); items > 0; items-- { // that are still to come
		major, n, next, ok := head(rest)
		if !ok {
			return nil
		}
		rest = next
		switch major {
		case 2, 3: // bytes, text
			if n > uint64(len(rest)) {
				return nil
			}
			rest = rest[n:]
		case 4, 5: // list, map
			if n > uint64(len(rest)) {
				return nil
			}
			if items += n; major == 5 {
				items += n
			}
		case 6: // tag
			major, n2, next, ok := head(rest)
			if n != 42 || !ok || major != 2 || n2 < 2 || n2 > uint64(len(next)) || next[0] != 0 {
				return nil
			}
			if found, linked = add(found, next[1:n2:n2]); !linked {
				return nil
			}
			rest = next[n2:]
		}
	}
	if len(rest) > 0 {
		return nil
	}
	return found
}

// head takes the head of an item from the front of b: its major type and argument.
func head(b []byte) (major byte, n uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, 0, nil, false
	}
	major, low := b[0]>>5, b[0]&31
	b = b[1:]
	if low < 24 {
		return major, uint64(low), b, true
	}
	if low > 27 {
		return 0, 0, nil, false // reserved, or of a length that is not known
	}
	size := 1 << (low - 24)
	if len(b) < size {
		return 0, 0, nil, false
	}
	for _, c := range b[:size] {
		n = n<<8 | uint64(c)
	}
	return major, n, b[size:], true
}
