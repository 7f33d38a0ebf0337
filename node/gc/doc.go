// Package gc removes the blocks that nothing needs, next to everything else that a node does, and never one that is needed.
//
// # What is needed
//
// A block is kept by a collection if one of these holds:
//
//	R  it is reachable from a pin, or from a root of MFS, of this repo
//	T  it was touched at the horizon or later: written, or found present by an operation that relies on it
//	A  it is reachable from something that an operation under way has adopted
//
// The horizon is fixed when the collection starts:
//
//	horizon = min(start − age, start of the oldest operation under way)
//
// # Why that is enough
//
// An operation is acknowledged when its content is reachable (R), or when the client may rely on the age (block put,
// dag import without pins). Until then each block of it was touched since the operation began, because
//
//	I1  a block is touched before it is put into the store, and before it is looked for by a pin
//	I2  an operation begins before its first touch, and ends after its root is recorded
//	I3  a touch waits while the very block is being deleted, so what is looked at or written after it comes
//	    after the deletion; a deletion looks for touches, and begins, under one lock
//	I4  a touch survives the end of the process (package touched); where it may not have, everything is young
//
// So whatever a collection did not see in R because it was recorded later, it keeps by T: an operation that was under way at the
// start has moved the horizon before its first touch, and one that began later touches later. Content that is referred to
// without being touched (`files cp` of content that is there) is adopted first (A): the collection walks it before its next
// batch. Roots of MFS that are published during the collection are walked in the same way.
//
// # What waits for what
//
// No operation waits for a collection longer than a deletion of its very blocks takes. A collection waits for no operation: one that
// hangs moves the horizon, and everything older than it goes. Deletions are made in batches, in parallel; nothing is
// locked while pins are walked.
//
// # Refusals
//
// A pin whose DAG is not whole here ends the collection before anything is deleted: what is below the missing block cannot be known.
// A missing block below MFS is not an error, MFS is lazy.
//
// # Memory
//
// 8 bytes for each reachable block in an open table (11 to 22 as it grows), 32 more for one with links, some
// 100 for each pin, and at most 40 MB, then 32 MiB, for what was touched since the horizon. Nothing while no collection runs.
//
// A crash at any point leaves fewer unneeded blocks.
package gc
