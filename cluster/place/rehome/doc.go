// Package rehome moves pins when peers go for long, and back when they return.
//
// ipfs-cluster, if told to, gives the pins of a lost peer to others at the first
// alert, one by one, and leaves them there; when two peers are lost together,
// each pin whose closest peer is the other one is forgotten. Here every peer
// watches, and works on the pins that it is responsible for:
//
//   - A pin with fewer copies on peers that are not gone than its replication
//     minimum gets new ones, by the ranking of package spread, and remembers in
//     its metadata ([HomeKey]) where it was.
//   - A pin whose home is complete again is copied back, and leaves the
//     other peers only when all peers of its home have said that they hold it.
//   - A pin with two copies in a zone while another zone has none gets a home
//     that is spread better, and moves there in the same way.
//
// All other pins stay where they are. What keeps it calm:
//
//   - A peer has gone, or is back, when it was so without a break for the delay of
//     [Options]; a peer that comes and goes changes nothing.
//   - Only peers that see more than half of all act, so no part of a divided
//     cluster takes the pins of the other; and in the other part they are where
//     they were.
//   - For each CID one peer is responsible, by rendezvous hashing over those that
//     are there. Two that differ for a moment about who is there compute the same
//     move, so the worst is that it is written twice.
//   - A peer changes so many pins a second at most, and as many as one change of
//     the pinset.
//
// Nothing is kept but the pinset itself: a crash at any point leaves pins that
// have moved and pins that have not, and the next pass goes on.
package rehome
