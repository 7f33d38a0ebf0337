package links

import (
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
	"google.golang.org/protobuf/encoding/protowire"
)

// Kind is what a node stands for.
type Kind uint8

// The kinds that are told apart.
const (
	// Other is a node without UnixFS data, or with some that is not known here.
	Other Kind = iota
	// File: its links are read one after the other, from left to right.
	File
	// Directory, or a shard of one: its links are read singly as often as in a row.
	Directory
)

// Link is a link of a node.
type Link struct {
	Cid cid.Cid // of the block that it leads to
	// Size is that of the block and of all below it, in bytes, as the node says: for a block without links its own.
	Size uint64
}

// Hash is the multihash of the block that a link leads to.
func (l Link) Hash() mh.Multihash { return l.Cid.Hash() }

// Node is a block with links.
type Node struct {
	Kind  Kind
	Links []Link // in the order of the node, which is that of the file
}

// Numbers of fields, and of kinds of UnixFS data.
const (
	nodeData  = 1
	nodeLinks = 2
	linkHash  = 1
	linkName  = 2
	linkSize  = 3

	unixfsType = 1
	rawFile    = 0
	directory  = 1
	file       = 2
	shard      = 5
)

// Possible reports whether a block that begins with this byte can be a node, so that others need not be read any further: with the
// field of links, which stands first in all that is written today, or with that of the data.
func Possible(first byte) bool {
	return first == byte(nodeLinks<<3|protowire.BytesType) || first == byte(nodeData<<3|protowire.BytesType)
}

// Parse returns the node that a block is, if it is one with links.
func Parse(data []byte) (n Node, ok bool) {
	if len(data) == 0 || !Possible(data[0]) {
		return Node{}, false
	}
	for len(data) > 0 {
		field, value, rest, ok := next(data)
		if !ok {
			return Node{}, false
		}
		data = rest
		switch field {
		case nodeLinks:
			l, ok := parseLink(value)
			if !ok {
				return Node{}, false
			}
			n.Links = append(n.Links, l)
		case nodeData:
			n.Kind = kindOf(value)
		default:
			return Node{}, false
		}
	}
	return n, len(n.Links) > 0
}

// next takes a field of bytes off the front.
func next(b []byte) (field protowire.Number, value, rest []byte, ok bool) {
	field, wire, n := protowire.ConsumeTag(b)
	if n < 0 || wire != protowire.BytesType {
		return 0, nil, nil, false
	}
	value, m := protowire.ConsumeBytes(b[n:])
	if m < 0 {
		return 0, nil, nil, false
	}
	return field, value, b[n+m:], true
}

func parseLink(b []byte) (Link, bool) {
	field, value, rest, ok := next(b)
	if !ok || field != linkHash {
		return Link{}, false
	}
	_, c, err := cid.CidFromBytes(value) // boxo, too, takes one that is followed by something
	if err != nil {
		return Link{}, false
	}
	l := Link{Cid: c}
	for len(rest) > 0 {
		field, wire, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return Link{}, false
		}
		rest = rest[n:]
		var m int
		switch {
		case field == linkName && wire == protowire.BytesType:
			_, m = protowire.ConsumeBytes(rest)
		case field == linkSize && wire == protowire.VarintType:
			l.Size, m = protowire.ConsumeVarint(rest)
		default:
			return Link{}, false // a node has nothing else there
		}
		if m < 0 {
			return Link{}, false
		}
		rest = rest[m:]
	}
	return l, true
}

// kindOf reads the type of UnixFS data, which stands first in it.
func kindOf(b []byte) Kind {
	field, wire, n := protowire.ConsumeTag(b)
	if n < 0 || field != unixfsType || wire != protowire.VarintType {
		return Other
	}
	v, m := protowire.ConsumeVarint(b[n:])
	if m < 0 {
		return Other
	}
	switch v {
	case rawFile, file:
		return File
	case directory, shard:
		return Directory
	}
	return Other
}
