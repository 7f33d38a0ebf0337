// Package repair makes the consensus state on disk agree with itself, before
// the consensus starts.
//
// The pinset is a Merkle-CRDT: every change is a block that links to the changes
// before it, and a peer keeps the blocks, which of them it has applied
// ("processed"), and the newest ones ("heads"). ipfs-cluster writes these one
// after the other. Each write is durable, but a peer that dies in between
// leaves them at odds, in two ways that it never notices afterwards:
//
//   - A block is processed, but is no head and has no successor. The change is
//     visible on this peer only: it is announced to nobody.
//   - A block that came from another peer is processed, but blocks before it
//     are not. When the other peer announces it again it is known already, so
//     the ones before it are never fetched: acknowledged pins are missing here.
//
// These are faults of go-ds-crdt 0.6.8: it marks a change as processed before it has
// what is before it, and its own repair begins at the heads. Reported as
// https://github.com/ipfs/go-ds-crdt/issues/279. Pull request 351, which is merged
// and in no release that we have, marks the store dirty after a death, and does
// not help a head that is missing; 350 and 355 would. This package goes with the
// go-ds-crdt that needs it no longer, and upstream_test.go says when.
//
// upstream: crdt-faults
//
// [Run] finds both by walking all blocks once. It makes the heads what they
// are by definition, the blocks that no other block links to. If anything is not
// processed, it names it (package frontier goes on from there), and sets the
// consensus's own mark for "walk the whole graph and process what is not
// processed", which the consensus acts on as soon as it runs.
//
// A change that was being written when the process died, and was not
// acknowledged, may come to life in this way. One that was acknowledged always
// is there.
//
// The layout is that of go-ds-crdt's format version 1 inside ipfs-cluster's
// store:
//
//	NS/b/blocks/MH     a block, by its multihash
//	NS/b/MH            it is processed (empty value)
//	NS/h/MH            it is a head; the value is its height, an unsigned varint
//	NS/d               walk the graph (empty value)
//	NS/crdt_version    format version + 1, an unsigned varint
//
// Nothing is changed in a store with another format version: go-ds-crdt migrates
// it, and the next start repairs it if need be.
package repair
