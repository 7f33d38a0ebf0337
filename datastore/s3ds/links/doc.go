// Package links reads from the bytes of a block which blocks it links to. A blockstore is not told the codec of a block, so this
// is a look at the bytes: what is a dag-pb node with links, in its whole length, is taken for one. UnixFS files and directories
// are such nodes (Parse); links of dag-cbor are found as well (Of). It never recurses, and allocates nothing but its answer: it is called
// with whatever a bucket holds.
//
// What it says is for deciding what to fetch and where to keep a block, never for deciding whether a block is wanted: a raw
// block may happen to have the bytes of a node.
//
// The format: https://ipld.io/specs/codecs/dag-pb/spec/ and, of the data in it, https://specs.ipfs.tech/unixfs/.
package links
