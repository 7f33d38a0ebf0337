// Package pack reads and writes packs: many blocks in one CARv2 file, in the
// order in which they arrived, with an index at the end.
//
//	0    pragma            11 bytes, as every CARv2
//	11   CARv2 header      40 bytes: characteristics 0, data offset 51, data size, index offset
//	51   CARv1 header      18 bytes: version 1, no roots
//	69   sections          uvarint length | CIDv1 raw + the block's multihash | data
//	n    index             codec 0x0401 (multihash-index-sorted), to the end of the file
//
// A store knows the multihash of a block but not its codec, so every section
// says "raw". Readers look blocks up by multihash; kubo does too, which is why
// `ipfs dag import` of a pack gives back every DAG that is whole in it. There
// are no roots because a pack is a run of blocks and not a DAG; an import
// therefore pins nothing.
//
// # Invariants
//
//   - Sections are contiguous from byte 69 to the index. The length of a
//     section, and with it the size of its block, follows from the offset of
//     the next one, so the index alone answers Has and GetSize.
//   - A section is at most [MaxSection] bytes after its length prefix, which is
//     also the default bound of go-car: what is written here can be read there.
//   - A pack holds at least one block. The same block may be in it twice.
//   - The name of a pack ([Name]) holds the offset and the checksum of its
//     index. With the size from a listing, one ranged read of exactly the index
//     is enough to know, and to trust, everything that is in the pack.
//
// # What may be trusted
//
// Nothing. A section proves itself by its multihash, an index by the checksum
// in the name; every decoder is bounded by the length of its input and by the
// limits above, whatever the input claims.
//
// The package does no I/O of its own: it works on the readers and writers it
// is given, and knows neither buckets nor journals. The format is written down
// for other implementers in docs/s3-format.md.
package pack
