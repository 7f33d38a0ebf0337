// Package frontier knows which changes of the pinset this peer has heard of but
// not applied.
//
// The pinset is a Merkle-CRDT: a change is a block that links to the changes
// before it. The consensus applies a new change first and then fetches what is
// before it, and it remembers only what it has applied. If the fetching breaks
// off (the peer that had the blocks died), nothing remembers that something is
// missing: the newest change counts as known, so it is never looked at again.
//
// That is go-ds-crdt's issue 279, without a death: it marks the store dirty, walks
// from its heads, which do not lead to what is missing, and takes the mark away.
// Pull requests 350 (open) and 355 (closed) of github.com/ipfs/go-ds-crdt were made
// against it. TestUpstreamForgetsABranchWhoseFetchingBrokeOff in package repair fails
// when upstream no longer needs this.
//
// upstream: crdt-faults
//
// [Store] is a decorator on the consensus's store. It sees every block that
// is kept and every mark "applied" that is set, and from these it keeps the set
// of changes that a kept block is or links to, and that are not applied. That
// set is empty when, and only when, this peer has applied everything it has
// heard of. Its size is that of what is missing, so normally nothing.
//
// The layout is described in package repair, whose walk at the start gives the
// first set. Nothing is written but what passes through, and [Store.Reopen]'s
// removal of a mark; a crash leaves nothing to clean up.
package frontier
