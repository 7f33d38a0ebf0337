// Package bucket defines the object store that everything in s3ds is built on: whole objects are put, ranges of them are
// read back as a stream, names are listed in order and removed in bulk. It is the only view of the remote side that
// the packages around it have.
//
// Invariants, which package buckettest checks for every implementation:
//
//   - An object is visible whole or not at all. A Put that returned is durable; a Put that failed may or may not have
//     happened, and may be repeated.
//   - ErrNotFound is knowledge, not a guess: it means that the bucket answered and holds no such object. Every
//     failure (refused, throttled, unreachable, cut short, missing bucket) is another error.
//   - A body that ends with io.EOF is complete. A body that breaks ends with another error.
//   - A cancelled context makes every call, and every Read of a body, return promptly with an error for which
//     errors.Is(err, ctx.Err()) holds.
//
// Concerns that are not storage are decorators in packages of their own, which know nothing but this interface: metered
// (requests, bytes, dollars), faulty (injected errors), delayed (the latency of S3) and recorded (a log of calls, for golden
// files). Implementations are s3 (the real thing) and mem (for tests).
//
// Nothing is kept here between processes; there is no state to lose in a crash.
package bucket
