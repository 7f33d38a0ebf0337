// Package migrate copies blocks from one store to another: every block, each
// hashed on its way, in an order that keeps what is read together close together,
// and so that it may be killed at any moment and go on.
//
//	report, err := migrate.Run(ctx, source, target, migrate.Options{Dir: "repo/migrate/ledger", Roots: pins})
//
// What it keeps is a ledger, on disk, in Options.Dir: what the source listed, what
// the target listed, and what this migration has written. The truth about what was
// copied is what the target lists, never the ledger: a block counts when the target
// says that it has it. The ledger says whose it is:
//
//   - Before a block is put, its line in the ledger says that it is ours, durably.
//     So what is in the target and not ours was there before, or came from
//     somebody else, and is never removed; and what is ours and no longer in the
//     source was deleted there meanwhile, and is removed.
//   - A block that is in the target and ours is not copied again. One that is there
//     and not ours (Options.Merge) is read and hashed where it is, and put only if it
//     is damaged.
//
// A crash at any point therefore costs what was between the last durable write of
// the target and the crash: for a store whose Put is durable the blocks in flight,
// for one that writes packs (Target.Sync) the last pack. Losing the ledger costs
// the right to remove anything, and a reading of what is in the target.
//
// The order: first what Options.Roots name, walked depth first, a block before those
// it links to, and these from left to right; then blocks with links that are left, and
// what is below them; then the rest. The order is for reading later on, not for
// completeness: which blocks are copied follows from the lists alone.
//
// Run returns without an error only if the target, listed anew at the end, has
// every block that the source has. One migration at a time per ledger. The package
// knows nothing of configs or of what is done with the target afterwards.
package migrate
