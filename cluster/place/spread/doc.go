// Package spread says which peers keep a pin: as many zones as there are, and
// within that an even share for every peer.
//
// Peers are ranked for each CID by weighted rendezvous hashing: a peer's score
// is -ln(u)/w, where u in (0,1) comes from SHA-256 over CID and peer ID, and w
// is its free space; the lowest is best. So a peer's share of the pins is its
// share of the free space, ties do not exist, every peer computes the same
// ranking, and a peer that comes or goes moves only its own share. From the
// ranking, the peer is taken first whose zone holds the fewest copies.
//
// ipfs-cluster's own allocator sorts by free space, which on equal peers gives
// every pin to the same ones.
//
// [Allocator] is the component that ipfs-cluster asks.
package spread
