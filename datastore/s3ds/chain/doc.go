// Package chain keeps a small log in a bucket that has one writer at a time. The objects of the log are numbered and created only
// if they are absent, so the process that creates the next number is the owner, and no clock and no lease decides that.
//
//	c, err := chain.Open(ctx, bucket, "ipfs/.ipfs-aws/chain", chain.Options{Node: "n3k7q", Host: "ip-10-0-1-7"})
//	seq, err := c.Append(ctx, []byte("retire 018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car\n"))
//	err = c.Confirm(ctx) // is this process still the owner?
//	err = c.Close(ctx)
//
// # Objects
//
// Under a root R: R/<seq>, a record, where seq is 12 lower-case hexadecimal digits, from 0 on; and R/snap-<seq>, a snapshot, which
// says whatever the records below seq say. docs/s3-format.md has the bytes. Open reads the newest snapshot and the records from its
// number on, and appends a record of kind takeover. The process that owned the chain before finds that record in the place of its own next
// one, and is fenced (ErrFenced) for good. What it had in flight either came before, and was read, or is refused.
//
// # Invariants
//
//   - A record that was acknowledged is read by every later Open, in its place, or is covered by the snapshot that it starts from.
//   - Of two processes, the one that did not take over last acknowledges nothing that it began after the takeover.
//   - Confirm returns nil only if this process owned the chain at some moment between the call and the return.
//   - A snapshot and the records from its number on are never removed. Nothing younger than trimAge is removed.
//
// # The hole, and what closes it
//
// A number that was trimmed can be created again, by an owner that slept since before the number was taken. No reader would ever see that
// record. So, all of them needed (TestModel has each of them broken once):
//
//   - Trim removes only what is older than trimAge by the clock of the server, and never the newest record.
//   - A proof of ownership is an answer that this process got less than blindFor after it sent the request of the proof before. If more
//     time has passed, by whichever clock says more, judged after the answer, the owner lists what is behind its own position first.
//   - Open counts as such a stretch, too. If it takes longer than blindFor from its list to its takeover, it begins again.
//
// A signature in a request is of now, and S3 refuses one that is older than 15 minutes, or from a machine whose clock is wrong by more
// than that. So a clock of this machine that stood still hides 15 minutes at most: blindFor + 15 min < trimAge.
//
// # What a crash leaves
//
// A record is there or not; an append whose answer was lost is found by its session and nonce when it is sent again. A process that
// dies leaves its last record as the newest one, which says that it did not close. There is nothing to clean up.
//
// # Cost
//
// Append 1 PUT ($0.000005), shared by all callers that waited while the one before was under way. Open 1 LIST, 1 GET for each record since the
// snapshot and 1 for that, 1 PUT. Confirm 1 GET ($0.0000004), or 1 LIST if the last proof is older than blindFor. Follower.Next 1 GET. Idle: nothing.
//
// The package knows package bucket and nothing else of this repository. All methods are safe for concurrent use.
package chain
