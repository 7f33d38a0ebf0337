// Package adds lets `ipfs add` write its blocks in parallel.
//
// kubo's adder puts the blocks of one file, waits until they are durable, and
// goes on to the next file. Each small file then costs the round trips of one
// durable Put, however many the store could take at the same time. Here the
// command runs in a session, carried by the context of its request: a Put in a
// session is accepted, and written behind its back, beside up to 63 others.
// What waits instead is what the command tells others:
//
//   - An "added" event is held until every block that the session had accepted
//     before it is durable. Whoever reads it has what stock kubo gives.
//   - A Sync of the repo's datastore, and each write to it that is no block (a
//     pin, its index), waits until every block accepted so far is durable.
//     No pin record is older on disk than a block below it.
//   - The command ends when all its writes have, and fails if one of them did.
//
// So the promise that a Put is durable when it returns is kept wherever somebody
// could tell the difference: P1 and P8 hold for whoever sees the command's
// output, its exit, or the repo.
//
// A block in flight is there for the session that put it, which reads back
// directories and the roots of files. Anybody else who asks for it waits until it
// is durable, and then asks the store; so nobody outside the session can take a
// block for stored that is not.
//
// A write that fails makes the next Put, Get and Sync of the session fail with
// its error, and the command. Events that were held for it are never sent.
//
// Everything outside of a session (block put, dag import, bitswap, the gateway,
// MFS) goes through untouched.
//
// Memory: the blocks in flight of all sessions together, at most 32 MiB and one
// batch of the adder for each session that waits for room (8 MiB, divided by the
// number of CPUs). When there is no room the adder waits.
//
// A crash leaves blocks without an "added" event and without a pin, as a crash of
// stock kubo does; gc removes them.
//
// The parts: Extend wraps the command, Blocks the base blockstore, Repo the repo.
// The last two are put in their place by plugin/blocks; without them a session
// has no effect.
package adds
