// Package touched remembers when the blocks of a repo were last written, or found present by whoever
// was about to write or pin them. Garbage collection keeps what was touched lately.
//
//	log, err := touched.Open(dir, touched.Options{Floor: floor})
//	err = log.Add(touched.Key(c.Hash()))  // before the block reaches the store
//	err = log.Visit(from, func(k touched.Digest) { … })
//
// # Invariants
//
//   - Visit(from) yields every digest that an Add, which has returned, was called with at from or later. It may
//     yield older ones, and two blocks may share a digest: both keep garbage, never lose content.
//   - Since is the earliest time from which on that holds. A history that is missing, damaged, of another
//     boot of the machine, or that could not be written, begins now.
//
// # On disk
//
// A folder of files, each of a slice of time, numbered without gaps, oldest first:
//
//	0000000000000007.touched   64 bytes of header, then a digest of 8 bytes for each touch, and every 10 ms the time
//	head                       the number of the newest file
//
// A record is in the file, by one write(2), when Add returns: the end of the process, also by kill -9, loses none.
// Nothing is synced. A crash of the machine may lose records, and is noticed: each header names the boot. head and the
// numbers give away a file that is missing. A torn record at the end belongs to an Add that did not return.
//
// Times are those of the machine's boot clock, which no one sets, and which runs while the machine sleeps.
//
// # Cost
//
// One write(2) of 8 bytes for each block, or for each batch of blocks. No memory: only Visit reads the files back.
//
// A Log is safe for concurrent use. The repo's lock keeps two processes from having it open.
package touched
