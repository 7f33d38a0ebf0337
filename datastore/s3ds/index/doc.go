// Package index knows where every block is: in the journal, in a pack, or in an object of its own. It maps multihashes to
// Locations in a local Pebble, and counts, for every pack, what of it is still alive. Has, GetSize, Query and DiskUsage of the
// datastore are answered here, without a request.
//
//	x, err := index.Open("/data/ipfs/s3ds/index", index.Options{Identity: index.Identity{Bucket: "b", Prefix: "ipfs", Writer: "w"}})
//
// # A cache of the truth
//
// The truth is the journal on disk and the packs in the bucket. The index may be lost or refused at any time and is then
// rebuilt: Remove, Open, PutJournal for the segments of the journal, AddPack with Take{Absent, Journal} for each pack, PutLoose
// for the loose objects, SetComplete. A rebuild that is interrupted goes on where it was: packs that are in Packs
// and not Incomplete are done. Until SetComplete(true), "not found" is not an answer.
//
// # What a crash leaves
//
// Updates are atomic, and applied in one order, but not synced: they cost no synced write, so that a Put costs that of
// the journal only. (Pebble begins a new log once for ~30,000 updates, and syncs then.) After a crash the index is what some
// prefix of its history made, entries and counters alike, and that prefix includes everything before the last Commit. So:
//
//   - Put a block into the index after its journal write was synced, never before.
//   - At start, replay every segment of the journal that is there, with PutJournal: blocks that have an entry keep it.
//   - Commit after AddPack, and before the segment is removed. Commit after AddPack and RemovePack of a compaction, and after the
//     deletion of loose blocks, before objects are deleted.
//   - A Delete that was not committed may be undone by a crash. So may one whose block lies in a segment that is
//     replayed: the block is back until it is deleted again. That is garbage, not damage.
//
// A pack in the bucket that has no record here was uploaded just before a crash: its segment is still in the journal, and AddPack
// is to be repeated for it.
//
// # Never wrong
//
// What is damaged is said to be ErrCorrupt, at Open or when it is read. Pebble's checksums cover the tables; its log is covered up
// to the last Commit, whose number is kept twice, in the log and in the file head; head also has a roster of manifests and logs,
// which Pebble would not miss. An index of another store is ErrForeign, one of another format ErrFormat.
//
// A full disk makes writes fail with ErrDiskFull at once, while reads go on; when there is space they work again,
// nothing was lost. Any other failed write stops the index, ErrStopped: reads go on, the process has to be restarted, and the
// goroutine that wrote stays parked until then.
//
// # Size
//
// On disk an entry is a key of 1+34 bytes, a value of ~10 (appendLocation), 1.25 bytes of Bloom filter and its part of block
// and index overhead. Memory is one block cache, three memtables and one record per pack, whatever the number of entries.
//
// BenchmarkTenMillion, 10 million blocks of 256 KiB in 78,125 packs, on one core of a 2-core cloud machine (Intel Xeon, local disk,
// other builds running beside it), GOMAXPROCS=1:
//
//	50.5 bytes of disk per entry
//	2.6 s to open
//	43 MiB of heap in all after 400,000 lookups, 47 MiB while loading
//	9.4 µs median of Has for a key that is there, 8.9 µs for one that is not
//	37,000 entries loaded per second
package index
