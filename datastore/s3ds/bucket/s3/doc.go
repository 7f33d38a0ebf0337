// Package s3bucket is a bucket.Bucket in Amazon S3, or in any server that speaks its protocol, on aws-sdk-go-v2.
//
// What it adds to the SDK is what the SDK leaves to the caller:
//
//   - One error per failure that names the object and the fix, and can be tested for (package bucket).
//   - No call without an end. Connecting, waiting for a header, an upload that stalls and a download that stalls each
//     have a limit; attempts are bounded; a cancelled context wins everywhere, also between attempts.
//   - A download that breaks is resumed where it stopped, on the same version of the object (If-Match), and is never
//     taken for complete before the promised number of bytes has arrived.
//   - An upload carries a checksum computed beforehand (CRC-32C, in a header), so that the server refuses a body that
//     was damaged on the way.
//   - One connection pool sized for the requests in flight: at the default of two idle connections per host, 1,032 PUTs
//     opened 850 connections; at 512 they opened 33.
//
// How a missing object is told from a missing bucket: by the body of the answer. HEAD has none, its 404 means either, so Head is
// not a HEAD but a GET of the first byte, which S3 charges the same ($0.0004 per 1,000) and answers as fast. One request,
// hit or miss, and never a guess. What it costs beyond that: an object under SSE-KMS without S3 Bucket Keys is one KMS call, and an
// archived object is an error where HEAD would have told its size. Check is a HEAD on the bucket, followed by a LIST of one key
// only if it fails, to learn why.
//
// Credentials come from the SDK's default chain (environment, shared files, container and instance role), which is the only
// thing here that reads the environment. Secrets are in no error, no log and no printed Options.
//
// Nothing is kept on disk.
package s3bucket
