// Package store opens the database in which a cluster peer keeps its pinset:
// a Pebble in a folder of its own, in the layout of ipfs-cluster's pebble
// datastore, so that a folder can change hands in both directions.
//
// What differs is durability. ipfs-cluster opens Pebble without synced writes:
// what it wrote last sits in a buffer of the process and is lost with it, after
// the pin was acknowledged. Here a Put, a Delete and a batch's Commit are in
// the write-ahead log, and the log is synced, when they return. Writers that
// wait at the same time share one sync (Pebble's group commit), so parallel
// pins cost fewer syncs than pins.
//
// [Store.Deferred] is a view of the store for who writes several times before it
// acknowledges once: there a write is durable when Sync has returned after it.
//
// A crash at any instruction leaves everything that was acknowledged, and of
// the rest each write or batch whole or not at all. What is lost is always what
// was written last: no write survives without the ones before it, through
// whichever view.
//
// One process may have a folder open at a time; Pebble holds a lock file. All
// methods of the datastore are safe for concurrent use; a batch is not.
package store
