// Package pinning decides when a pin is tried on this peer's IPFS node, so that pins
// whose content cannot be found do not hold up the others.
//
// ipfs-cluster gives each pin one of a few slots, and keeps it there for minutes if no
// block comes. Here:
//
//   - A pin has a slot while blocks come, and for [pause] at the beginning, if the node has
//     its root. Without the root it begins without a slot. An attempt for which no block came
//     for a while loses its slot and goes on, up to [standingPerSlot] of them for each slot. When there
//     are more, those that got no block for [chance] make room.
//   - An attempt ends when no block came for [firstStall]; later ones of the same pin may take
//     twice as long each, up to CLUSTER_IPFSHTTP_PINTIMEOUT.
//   - After it, the pin's status says what is missing and since when, and the pin waits:
//     [firstWait], then twice as long each time, up to [longestWait]. Meanwhile
//     the other peers are asked whether they have the missing block. As soon as one does,
//     or a client pins the CID again or recovers it, it is tried at once.
//
// Errors of another kind, such as a node that is away or a full disk, are tried again
// at every round (CLUSTER_PINRECOVERINTERVAL), as before.
//
// What is kept is since when a CID is not found, in the peer's store: one write that is synced
// for each attempt that fails. The rest is not needed after a crash: the pinset says what is to be pinned, and at a start everything is tried.
//
// [Connector] is asked by ipfs-cluster's tracker of pins, [Tracker] by clients.
package pinning
