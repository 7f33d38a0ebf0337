// Package commit lets pins that arrive together become one change of the
// pinset, and acknowledges each only when that change is on disk.
//
// ipfs-cluster can do one or the other: without batching every pin is a change
// of its own, with a handful of syncs of the disk and a block of the CRDT graph
// for each; with batching it answers as soon as a pin is queued in memory, and
// a crash loses it. [Consensus] stands in front of ipfs-cluster's CRDT
// consensus and takes its place in adding to the batch: it adds what is
// waiting, commits, and answers. Nobody waits for a timer: while one change is
// being written the next one gathers, so a lone pin is as fast as before, and
// many at once share the cost.
//
// Invariants:
//
//   - LogPin, LogUnpin and Place return nil only if the change is durable.
//   - LogPin and LogUnpin return when the other peers show the change, as far as they answer
//     (package reach).
//   - Changes are applied in the order of arrival. A CID occurs once in a
//     change: a second operation on it waits for the next one, because the
//     removal of a pin sees only what was committed before.
//   - A placement is written only if the pin's record is still the one that it is for
//     (package placement). So on one peer a move follows nothing but the last decision.
//   - A pin that is written again keeps its name, metadata and origins where the client says
//     nothing about them, and the requests of the pinning service always (package requests).
//   - A crash loses at most what was not answered.
package commit
