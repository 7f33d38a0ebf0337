// Package add makes adds through the cluster as fast as adds to one node, and
// honest about who holds the content.
//
// ipfs-cluster sends every block of an add in a part of its own to its node's
// `block put`, which stores one and answers before it takes the next; it
// reports success as soon as one of several destinations has everything; and the
// nodes pin it later, when a collection of garbage may have removed it.
//
//   - [Connector], at every destination, hands the blocks that arrive to the
//     node in one `dag import`, which stores many at a time.
//   - [Fanout], where the add arrives, chunks and hashes once and sends each
//     block to all destinations side by side, every one with a window of its
//     own. One that fails, or takes nothing for a while, is left behind and the
//     rest go on.
//   - [Holds], at every destination, pins the root when all is stored. The node goes
//     through the whole DAG for that.
//   - [NewAPI] is the route /add, with ipfs-cluster's parameters and answers. An
//     add is answered when every destination holds all of it, or was
//     left behind; then the last object of the answer has a field "missing"
//     and the trailer X-Cluster-Missing names the peers. They are allocated all
//     the same and fetch the content from the others, as after a pin.
//
// # Invariants
//
// A destination counts only while its node has a recursive pin of the root that was made,
// or was found, after all blocks were stored. The pin is made before the pinset
// is written, and the pinset is written before the client is answered. So at no moment
// between the answer and the end of the cluster's pin can a collection remove the content,
// whatever node it is.
//
// An add that fails, is broken off by its client, or is not to be pinned (no-pin) leaves no pin
// on any node: the peer where it arrived says so to all that hold it, before the client
// is answered. A node keeps the root all the same if it had pinned it before, if another add
// holds it or has kept it, or if the pinset says that this peer keeps it.
//
// A pin that an add makes has a name, [heldName] and the time. If a process is killed between
// the node's pin and the end of the add, its peer does not know how it ended. It keeps
// the pin, and [Holds.Sweep], at the start and then from time to time, removes the
// named pins that are old enough and not in the pinset. So nothing stays pinned for ever that
// the pinset does not know, and pins that others made are never touched.
//
// The CAR files of an add may have several roots. Each is held and pinned as the one of another add is; none is
// pinned before all are held by enough destinations.
//
// A CAR file is complete if each link of its blocks leads to one of its blocks, or to
// a DAG that the destination has. Links are followed while the file is read ([links]);
// those that lead out of it are looked up at each destination, offline, before the
// pin. If too few destinations have what is missing, it is the client's error, and
// names the first missing CIDs.
//
// Memory is bounded: [window] blocks per destination and add, and [maxTracked] links of a CAR
// file. Of a larger one the node's pin alone says whether it is complete.
package add
