// Package rehome moves pins when peers go for long, and back when they return.
//
// ipfs-cluster, if told to, gives the pins of a lost peer to others at the first
// alert, one by one, and leaves them there; when two peers are lost together,
// each pin whose closest peer is the other one is forgotten. Here every peer
// watches, and works on the pins that it is responsible for:
//
//   - A pin that lost copies gets new ones when fewer are left than its replication
//     maximum, which is how many are kept. They follow the ranking of package spread, and the
//     pin remembers ([placement.HomeKey]) where it was.
//   - A pin that has fewer peers than that, because its maximum was raised or the peer that
//     accepted it knew of too few others, gets more of them at once.
//   - A pin whose home is complete again is copied back, and leaves the
//     other peers only when all peers of its home have said that they hold it.
//   - A pin with two copies in a zone while another zone has none gets a home
//     that is spread better, and moves there in the same way.
//   - A pin with more copies than its maximum loses those that are spread worst.
//
// All other pins stay where they are. What keeps it calm:
//
//   - A peer has gone, or is back, when it was so without a break for the delay of
//     [Options]; a peer that comes and goes changes nothing.
//
//   - Only peers that see more than half of all act, so no part of a divided
//     cluster takes the pins of the other; and in the other part they are where
//     they were.
//
//   - For each CID one peer is responsible, by rendezvous hashing over those that
//     are there. Two that differ for a moment about who is there compute the same
//     move, so the worst is that it is written twice.
//
//   - A peer changes so many pins a second at most, and as many as one change of
//     the pinset.
//
//   - While a peer is connected that does not read placements, nothing moves: in the middle
//     of an upgrade the others would wait for copies that it does not make.
//
// A move is a placement next to the pin's record (package placement). It can neither create a
// pin nor change one, whatever clients do at the same moment on whichever peer.
//
// Nothing is kept but the pinset itself: a crash at any point leaves pins that
// have moved and pins that have not, and the next pass goes on.
package rehome
