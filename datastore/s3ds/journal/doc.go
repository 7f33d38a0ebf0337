// Package journal keeps blocks on the local disk from the moment they are
// acknowledged until the pack that holds them is in the bucket.
//
//	j, recovery, err := journal.Open("/data/ipfs/s3ds/journal", journal.Options{Writer: "n3k7q"})
//	locs, err := j.Append(ctx, blocks) // durable when it returns
//	data, err := j.Get(locs[0], blocks[0].Multihash)
//
//	for { // the uploader
//		seg, err := j.Next(ctx)
//		// … upload seg.Size() bytes of seg as the object seg.Name(), sync the index …
//		err = j.Remove(seg.ID())
//	}
//
// # What is on disk
//
// One folder, owned by one process (a lock file says so), with three kinds of
// files:
//
//	<id>-<writer>.open                            a segment that grows
//	<id>-<writer>-<index offset>-<checksum>.car   a sealed segment: a whole pack, under its name in the bucket
//	<id>-<writer>.tmp                             a copy in the making; worthless after a crash
//	<id>-<writer>.damaged                         what recovery could not read in full, kept for a person to look at
//
// A segment is a pack from its first byte on (see package pack); sealing adds
// the index, fills in the header, syncs, and renames. So a file called .car is
// complete, and all else is judged section by section: each one proves itself
// by its multihash.
//
// # Writing
//
// One goroutine writes. It takes all blocks that wait, writes them, syncs once,
// and wakes all who waited: a group commit. Beyond that write and that sync the
// path of a Put makes a file, and syncs the folder, once per segment. Sealing
// happens in another goroutine.
//
// A segment is sealed when it is full (bytes or blocks), when its oldest block
// has waited for the seal age, or when asked. Age waits while a sealed segment
// has not yet been taken by the uploader: if the bucket is down, segments
// become full instead of many.
//
// # Crashes and failures
//
//   - A crash at any instruction, or the loss of power, loses no block whose
//     Append returned. At Open, what was not sealed is read section by section;
//     an incomplete tail, of blocks that nobody was promised, is cut and
//     reported.
//   - Bad bytes with good sections after them are not a tail: the good ones are
//     kept, the bad ones reported as [Recovery].Damaged, and the original file
//     is kept as .damaged. (Power loss can leave the same picture in blocks that
//     were never acknowledged, because disks write pages in any order; and a
//     torn block can hold a whole CAR with sections of its own. Nothing is lost
//     by taking them for damage.)
//   - A write or sync that fails ends its segment: those who waited get the
//     error, and the next Append begins a new file. A sync is never repeated on
//     the same file, for after a failed one the kernel may have dropped the
//     pages and reports success. The part that was synced before is copied,
//     verified, into a new file, which becomes the sealed segment. Recovery
//     copies for the same reason: what a dead process wrote may be in memory
//     only. Until there is room for the copy, the old file serves reads.
//   - When the disk is full, Append fails with an error that matches
//     syscall.ENOSPC; as soon as there is room it works again.
//   - Segments that were removed may be there again after a loss of power. They
//     are handed out again, under the same name and with the same bytes.
//
// # Bounds
//
// Bytes on disk are bounded by Options.MaxBytes: beyond it Append waits. Memory
// is 1 MiB, one section (8 MiB at most), and the index of each segment not yet
// sealed (5 MiB at most with the default of 131,072 blocks); the blocks
// themselves are held by the callers that wait.
package journal
