// Package s3ds is a go-datastore in an S3 bucket, made for the blocks of an IPFS node, in one of two layouts:
// Datastore is a drop-in for go-ds-s3 with its type name, settings, disk spec and object names, one object per value;
// Packed puts many blocks into one object. Either reads what the other wrote.
//
//	{"type": "s3ds", "region": "us-east-1", "bucket": "my-blocks", "rootDirectory": "node-1"}
//	{"type": "s3ds", "region": "us-east-1", "bucket": "my-blocks", "rootDirectory": "node-1", "layout": "packs"}
//
// # Layout objects
//
// One value is one object. The object's name is the datastore key without its leading slash, behind rootDirectory and
// a slash if there is one: /CIQ… is node-1/CIQ…. Nothing else is in the bucket, and nothing is kept on local disk, so
// a crash at any point leaves what the bucket acknowledged. A process that is killed inside Probe may leave one
// object named node-1/.ipfs-aws-probe-…, which no query shows.
//
// Invariants:
//
//   - A Put or a Commit that returned nil is durable. Sync has nothing left to do.
//   - A failed request is never "not found". datastore.ErrNotFound means that the bucket answered and has no such
//     object.
//   - A value whose key is a multihash is hashed when it is read, and served only if it matches (ErrCorrupt).
//   - At most Config.Workers objects are being read or written at any time, whatever the number of callers and
//     batches, and a batch holds at most batchLimit bytes before it sends them.
//
// Cost: Put 1 PUT; Get 1 GET; Has and GetSize 1 HEAD, hit or miss; Delete nothing; Batch as many PUTs as it has puts;
// Query 1 LIST per 1,000 keys, and 1 GET per value unless KeysOnly; DiskUsage 1 LIST per 1,000 keys the first time,
// then seldom; Check and Sync nothing. A store that nobody uses sends nothing.
//
// Where a prefix holds packs, or did once, layout objects is a Packed that writes one object per block and is told by
// its index where everything is (OpenIn). There, what a put returned for is in the bucket, and in the index,
// committed; nothing goes through the journal.
//
// # Layout packs
//
// A write goes through the fence (is this the one process that may write here? fence.go, on package chain), journal
// (durable on the local disk) and index, and returns. In the background a sealed segment of the journal is uploaded
// as a pack, the index is told, and the segment is removed. A read asks the index, and then the journal, span (ranges
// of packs, with a cache on disk), or the bucket for an object of its own. Has, GetSize, Query and DiskUsage end at
// the index. Compaction removes dead packs and merges tiny and mostly dead ones. Inner nodes of DAGs (links) are
// gathered into packs of their own after their upload (gather.go), and what a node says plans how its leaves are read
// (ahead.go).
//
// The order of things is what makes a crash at any point harmless:
//
//   - The index hears of a block after the journal has it, and of a pack after the bucket has it. A segment is
//     removed after the index, synced, has its pack; a dead pack is deleted after the index, synced, has no entry for
//     it, and forgotten last.
//   - A block whose segment is uploaded before the index heard of it is written once more (segments), for the index
//     takes its copy in the pack for dead.
//   - A pack is not removed while it is uploaded again (compaction.hold), for the index may take blocks into it.
//   - What the index expects somewhere and is not there is an error, and is replaced by the next put (judge.go).
//
// A node without a usable index makes it again from the bucket (one GET per pack) and its journal. One whose index
// may not agree with the bucket, because another process owned the prefix since, or this one did not end in order, is
// brought in step with it before it is used (resync.go). Nothing is deleted in the bucket before the chain says so,
// and what the chain says to be deleted is not counted on by later owners.
//
// One hole is left. An object of its own whose name is used again (no pack has one) may be hit by a deletion of an
// earlier owner that was suspended between its record and its request. Blocks that fit into a pack are written to a
// pack then; those over 8 MiB, and values that are no blocks, are not.
//
// All methods are safe for concurrent use. The package is called by the kubo plugin and by any other user of
// go-datastore; it logs nothing, and reads no environment but what the AWS SDK's credential chain reads.
package s3ds
