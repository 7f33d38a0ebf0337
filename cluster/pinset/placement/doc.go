// Package placement keeps where a pin is apart from the pin itself, so that moving copies
// can neither create a pin nor change one.
//
// The pinset is an add-wins set: what is written at the same time as a removal stays. A peer
// that moved a pin by writing it again brought back pins that were removed meanwhile, and
// undid a new name or expiry, on its own peer as well as by way of the others.
//
// Here a client's decision is the record of a pin, as ipfs-cluster writes it, under the key
// of its CID. Where its copies are after a move is a [Placement] under a key of its own next
// to it. It names the record that it is for by a hash of the record's bytes:
//
//   - Without its record a placement means nothing. So a removal wins over every move.
//   - If the record is another one, the placement means nothing either. So a pin that is
//     written again is where its writer put it, and a new name or expiry wins.
//   - Otherwise the pin is where the placement says, and is in everything else as the record
//     says.
//
// This holds on every peer in whatever order changes arrive, because it is looked at when
// the pin is read. [State] reads pins in this way. A removal removes the placement as well;
// one that was written at the same moment stays behind, means nothing, and is replaced by
// the next one for this CID.
//
// A placement is JSON and no protobuf message of a pin, and its key ends in no CID. So peers
// of ipfs-cluster and of former releases leave it alone; they see the pin where its record
// says. [Understands] says which peers know better, and package rehome moves nothing while
// one is connected that does not.
//
// A crash leaves a change of the pinset whole or not at all; see package consensus.
package placement
