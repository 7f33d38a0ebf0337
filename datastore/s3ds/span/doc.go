// Package span reads blocks out of packs, but fetches spans: as much of a pack around a block as the reader is likely to want
// next, so that requests are few and large, and a sequential reader runs at the speed of the network.
//
//	r, err := span.New(bucket, span.Options{Next: store.packAfter, CacheDir: "/data/cache", CacheBytes: 20 << 30})
//	data, err := r.Get(ctx, span.Block{Pack: span.Pack{Key: key, End: indexOffset}, Offset: offset, Length: length, Hash: multihash})
//
// # What is fetched
//
// plan.go has the rules. A block at a place where nobody reads costs one GET of exactly its bytes. A block right behind one
// that was read makes a stream, whose window begins at four blocks and doubles up to MaxWindow; a stream is read ahead, keeps its window
// across packs (Options.Next), and fetches what surrounds a place not far ahead of it, as file systems do with the metadata in
// front of a file. Streams are told apart by where they read, so any number of readers of one or several packs has one each.
//
// Kubo reads a file root first, then each inner node before its leaves, while an add stores leaves, their node, …, root. Both are covered:
// 256 MiB in blocks of 256 KiB take 23 GETs and move 256.1 MiB (TestCat). Where nodes have packs of their own (Pack.Nodes), they
// come with one or two requests, and a caller that knows which leaves belong together says so with Block.Near: a Range of 1 MiB in
// the middle takes 4 GETs without that, 2 with it (TestRange). One that knows where the file ends (Block.Left) gets nothing behind it (TestEndOfFile), and
// so may be further ahead: two windows beside the one that is read.
//
// # How it is kept
//
// A request is cut into extents of up to 1 MiB, which are the unit of memory (whole ones outside of Go's heap, arena.go) and of the cache on disk. Waiters get their bytes as they come in;
// readers of one range share its request; a request that nobody waits for is cancelled, unless it runs ahead of a reader who got a block.
// Extents that are whole go to the disk in the background. No read waits for that: what memory has to give up before
// the disk took it is not cached, and counted.
//
// # Invariants
//
//   - What Get returns has the multihash that was asked for. Bytes that have not are dropped wherever they are kept, and read
//     once more from the bucket (P4).
//   - A failed request is an error for those who waited for what it was sent for, and for nobody else; it is never "not found".
//   - Fetched data takes at most half of MemoryBytes, results on their way the other half, files at most CacheBytes,
//     for as long as the disk lets them be removed.
//   - The cache is optional in every way: damaged, full, read-only or gone, it costs requests, not answers. Its files
//     prove themselves (file.go), are not synced, and are used again after a restart, torn ones excepted.
//
// A Reader may be used by any number of goroutines; its folder by one Reader at a time.
package span
