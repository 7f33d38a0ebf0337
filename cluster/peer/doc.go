// Package peer puts a cluster peer together from ipfs-cluster's components and
// this program's settings, runs it, and ends it in order.
//
// What it adds to the components:
//
//   - configuration from [settings.Settings] and the environment alone; nothing
//     secret is written to the folder
//   - a store whose writes are durable when acknowledged (package store)
//   - a check of the consensus state before it is used (package repair)
//   - connections to all peers of CLUSTER_PEERS, tried again for ever, with
//     names resolved at every attempt, so peers may start in any order and may
//     move
//   - no connections to anybody else, if CLUSTER_PEERS says who the peers are
//   - the IPFS nodes of all peers kept connected to each other, so that a
//     node which was away fetches what it missed
//   - pins that failed while the IPFS node was away are retried as soon as it
//     is back, instead of at the next recovery round
//   - pins that move when peers go for long, and back (package rehome)
//   - the pinset kept in step by our own component (package consensus), which
//     knows what is missing (package frontier) and gets it (package catchup)
//   - readiness (package health), and an end that finishes what clients have
//     begun (package gate)
//
// CRDT consensus is the only one; the IPFS proxy is never started.
//
// A crash at any point leaves the store with everything that was acknowledged.
// Pins whose content had not arrived yet are resumed at the next start, because
// the pinset, not a queue, says what should be pinned.
package peer
