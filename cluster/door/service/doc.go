// Package service is the IPFS Pinning Service API (version 1.0.0 of
// https://ipfs.github.io/pinning-services-api-spec/) in front of the cluster's pinset.
//
//	GET    /pins              list requests, newest first
//	POST   /pins              pin
//	GET    /pins/{requestid}  look at one
//	POST   /pins/{requestid}  replace one
//	DELETE /pins/{requestid}  remove one
//
// ipfs-cluster's own has no order, no second request for a CID and no page that follows another one.
//
// # Invariants
//
//   - Every request has a time of its own, to the millisecond, which is what clients in JavaScript can send
//     back. So a list by "before" or "after" has each request exactly once, whatever the size of its pages. The
//     time is the same in every list, unless one that came in the same millisecond is removed.
//   - A request is answered when its pin is in the pinset of the peers that answer, so the next question
//     may go to another peer.
//   - A pin is "pinned" if as many nodes have it as its replication minimum says, one if every
//     peer keeps it. A peer that does not answer has nothing.
//   - A mistake of the client is 400 or 404 and a sentence; 5xx is the cluster's.
//
// A list reads the whole pinset once, and keeps an index of some 200 bytes a request in memory for
// as long as the pinset does not change and pages are asked for. Its status comes from what the peers
// say is not pinned, which is little.
package service
