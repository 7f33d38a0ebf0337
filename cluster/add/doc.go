// Package add makes adds through the cluster as fast as adds to one node, and
// honest about who holds the content.
//
// ipfs-cluster sends every block of an add in a part of its own to its node's
// `block put`, which stores one and answers before it takes the next; and it
// reports success as soon as one of several destinations has everything.
//
//   - [Connector], at every destination, hands the blocks that arrive to the
//     node in one `dag import`, which stores many at a time.
//   - [Fanout], where the add arrives, chunks and hashes once and sends each
//     block to all destinations side by side, every one with a window of its
//     own. One that fails, or takes nothing for a while, is left behind and the
//     rest go on.
//   - [NewAPI] is the route /add, with ipfs-cluster's parameters and answers. An
//     add is answered when every destination has stored all blocks, or was
//     left behind; then the last object of the answer has a field "missing"
//     and the trailer X-Cluster-Missing names the peers. They are allocated all
//     the same and fetch the content from the others, as after a pin.
//
// Memory is bounded: [window] blocks per destination and add.
package add
