package efs

import "encoding/base32"

// digest is the value of a SHA-256. Nearly every block of an IPFS repo has such
// a key: base32 of the multihash, 0x12 0x20 and 32 bytes, which is 55 characters
// that begin with CIQ. Keeping 32 bytes instead of a string of 55 halves the
// memory of the index.
type digest [32]byte

var keyEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

const digestNameLen = 55 // ⌈34 × 8 / 5⌉

// digestOf returns the digest that name encodes. ok is false if name is anything
// but the one encoding of a SHA-256 multihash.
func digestOf(name string) (d digest, ok bool) {
	if len(name) != digestNameLen || name[:3] != "CIQ" {
		return d, false
	}
	// 275 bits carry 272: the last character must end in three zero bits, or
	// two names would lead to one digest.
	switch name[digestNameLen-1] {
	case 'A', 'I', 'Q', 'Y':
	default:
		return d, false
	}
	var raw [35]byte
	n, err := keyEncoding.Decode(raw[:], []byte(name))
	if err != nil || n != 34 || raw[0] != 0x12 || raw[1] != 0x20 {
		return d, false
	}
	copy(d[:], raw[2:34])
	return d, true
}

// name is the inverse of digestOf.
func (d digest) name() string {
	var raw [34]byte
	raw[0], raw[1] = 0x12, 0x20
	copy(raw[2:], d[:])
	return keyEncoding.EncodeToString(raw[:])
}
