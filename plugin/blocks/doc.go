// Package blocks is the place where kubo's base blockstore is decorated, and
// the repo below it.
//
// fx, which builds kubo's node, takes one decorator for each type. So what puts
// something around the base blockstore is a package of its own that knows nothing
// of fx, and is called here, in an order that can be read: see decorateBlocks.
package blocks
