// Package tiered puts one datastore in front of another: new values go to the hot
// one, and reads look there first and then in the cold one.
//
//	store := tiered.New(hot, cold, tiered.Options{})
//
// The two are one store to whoever uses it:
//
//   - A Put or Commit returns when the hot store has kept its promise: whatever
//     durability that has, this has. The cold store is not written to.
//   - Get, GetSize and Has ask the hot store, and the cold one if it is not there. "Not
//     found" is what both said; an error of either is an error.
//   - A Delete is done when both have done it. If the second one fails, the value is still there,
//     and the error says so.
//   - A Query shows what is in either, each key once. (A key that is deleted and put again while it is listed
//     may be seen twice.)
//
// Values may be moved from the cold store to the hot one meanwhile, by Options.Promote when they are read, or
// by a Mover, as a migration does. A value that is deleted while it is on its way does not come back: a Delete waits
// for a write of the same key that is under way, and a value that was read before the Delete is not
// written after it.
//
// This is made for blocks, whose value follows from their key: where both stores have a key, they have the same
// value. A crash leaves what the stores leave; there is nothing in between.
//
// Switch is another idea, for the same work: a store that goes over to another one while it is used.
package tiered
