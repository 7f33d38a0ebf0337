// Package pinset works on the pinset of a peer that is not running: it lists,
// exports, imports and removes it.
//
// The export format is that of "ipfs-cluster-service state export": one JSON
// object per pin and line. So a pinset moves between this program and
// ipfs-cluster in both directions.
//
// The caller holds the folder's lock. An import writes its pins in batches,
// each durable when it is in; a crash in between leaves a part of them, and
// importing the same file again completes it.
package pinset
