// Package efs is a blockstore on a network file system: flatfs, with the same
// files in the same places, without the round trips.
//
//	ds, err := efs.Open(efs.Config{
//		Path:      "/mnt/efs/ipfs/blocks",
//		ShardFunc: "/repo/flatfs/shard/v1/next-to-last/2",
//		Workers:   64,
//	})
//
// # What is on disk
//
// A flatfs repo, which stock flatfs opens before and after:
//
//	blocks/SHARDING               the shard function, one line
//	blocks/_README                what this is, for the default shard function
//	blocks/diskUsage.cache        {"diskUsage": bytes, "accuracy": "initial-exact"}
//	blocks/<shard>/<KEY>.data     one block
//	blocks/<shard>/.efs-tmp-…     a block being written; stock flatfs does not see it
//	blocks/.temp/                 files made ahead for the next block; stock flatfs empties it when it opens
//	blocks/efs.lock               locked by the process that has the store open
//	blocks/efs.index              the persisted index, unless Config.IndexPath puts it elsewhere
//
// # A Put
//
// A temporary file, written and synced, renamed to its final name in the same
// directory, the directory synced (free on NFS), and then acknowledged. Closing
// the file, a round trip that adds nothing to durability, happens behind the
// acknowledgement. Nothing is ever visible under a final name that is not
// complete and durable: that is stock flatfs with sync: true, and promise P8.
//
// Stock flatfs makes all its temporary files in one directory, and so all its
// creations wait for that directory's lock, and all its renames between
// directories for the lock of the whole mount. Here each shard has its own, and
// 64 writers are 64 writers. A lone writer has nobody to wait for, and is better
// served by a file that was created ahead of time, in .temp: then a Put is two
// round trips instead of three.
//
// A Put of a block that is already there reads and compares it instead of
// writing it again, which costs less time and a third of the throughput.
//
// # The index
//
// The name and size of every block, in memory (about 60 bytes for each), so
// that Has, GetSize and Query ask the file system nothing. The directory tree
// is the truth and the index is a copy of it: the persisted form carries, for
// each shard, the directory's modification time, change time and inode number
// at the moment when its contents were those listed. At Open each directory
// is asked for these, past the client's cache, and one that differs in any is
// read again. A directory that had changed so recently when it was recorded that
// the clock may not tell a later change apart is believed only if a marker
// file that is left behind by Close, and is swept by the next opener whoever it
// is, shows that nobody has opened the store since.
//
// # Deletes
//
// A Delete alone returns when the file is gone. In a row of deletes, as garbage
// collection sends them, one after the other, all but the first few are
// acknowledged at once and removed by several workers. Until Sync,
// CollectGarbage or Close has returned, a crash may bring such a block back; it
// is never half there. An error in removing it puts it back into the index and
// is returned by the next of these three calls.
//
// # After a crash
//
// Temporary files are swept by the next Open, for a directory with one in it
// never has the recorded stamp. Shards written since the index was persisted
// are read again. That is all there is to repair.
//
// # One at a time
//
// Kubo's repo lock keeps a second process out while a store is open. A library
// user without a repo lock must see to that by other means.
package efs
