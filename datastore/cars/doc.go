// Package cars keeps blocks in a plain folder of CAR files: a backup that any IPFS
// software reads, and the way back.
//
//	folder, err := cars.Create("/backup", cars.Options{PackSize: 32 << 20})   // to write, and to go on writing
//	folder, err := cars.Open("/backup", cars.Options{})                       // to read any folder of *.car
//
// What is written is a pack (docs/s3-format.md): a CARv2 file with its index at the end, named by when it was begun.
// What is read is any CARv1 or CARv2 file whose name ends in .car, directly in the folder. No other file is needed.
//
// Blocks that were put are durable when Sync has returned: it ends the pack that is being written, syncs it and gives it
// its name. A crash before that leaves a file called *.part, which the next Create removes.
//
// Pins are two things beside the packs (WritePins): pins.jsonl, a line of JSON for each, with its kind and name, and
// pins-NNNN.car, CARs without blocks whose roots are what is pinned recursively. So `ipfs dag import *.car` brings back
// blocks and recursive pins without this package, and `ipfs-aws datastore migrate --from` all of them.
//
// Memory: 16 bytes for each block of the folder, and the index of one pack. A Folder is safe for concurrent use; one
// process at a time may write, and a lock keeps a second one out.
package cars
