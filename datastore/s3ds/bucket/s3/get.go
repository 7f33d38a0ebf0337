package s3bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// Get implements bucket.Bucket. Cost: one GET request, and one more each time the body breaks and is resumed.
func (b *Bucket) Get(ctx context.Context, key string, r bucket.Range) (io.ReadCloser, bucket.Info, error) {
	if r.Offset < 0 || r.Length < 0 {
		return nil, bucket.Info{}, &bucket.Error{Op: bucket.OpGet, Bucket: b.o.Bucket, Key: key, Kind: bucket.ErrInvalidRange}
	}
	body, info, n, err := b.open(ctx, bucket.OpGet, key, r, "")
	if err != nil {
		return nil, bucket.Info{}, err
	}
	return &object{b: b, ctx: ctx, info: info, body: body, at: r.Offset, left: n}, info, nil
}

// open sends one GET and returns its body, the object and the number of bytes that the body will have.
func (b *Bucket) open(ctx context.Context, op bucket.Op, key string, r bucket.Range, ifMatch string) (io.ReadCloser, bucket.Info, int64, error) {
	in := &s3.GetObjectInput{Bucket: &b.o.Bucket, Key: &key, IfMatch: nonEmpty(ifMatch)}
	switch {
	case r.Whole():
	case r.Length == 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", r.Offset))
	default:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", r.Offset, r.Offset+r.Length-1))
	}
	out, err := b.s3.GetObject(ctx, in)
	if err != nil {
		return nil, bucket.Info{}, 0, b.fault(ctx, op, key, err)
	}
	info := bucket.Info{Key: key, ETag: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified).UTC(), Clock: clockOf(out.ResultMetadata)}
	n, err := extent(out, r, &info)
	if err != nil {
		_ = out.Body.Close() // the answer is refused, whatever becomes of its body
		return nil, bucket.Info{}, 0, b.malformed(op, key, err.Error())
	}
	return out.Body, info, n, nil
}

// extent checks that the answer is the range that was asked for, fills in the object's size, and returns the length of the body.
func extent(out *s3.GetObjectOutput, r bucket.Range, info *bucket.Info) (int64, error) {
	if out.ContentLength == nil {
		return 0, errors.New("no Content-Length in the answer")
	}
	n := *out.ContentLength
	if r.Whole() {
		info.Size = n
		return n, nil
	}
	var first, last, size int64
	got := aws.ToString(out.ContentRange)
	if _, err := fmt.Sscanf(got, "bytes %d-%d/%d", &first, &last, &size); err != nil {
		return 0, fmt.Errorf("asked for bytes from %d on, got Content-Range %q", r.Offset, got)
	}
	want, err := r.Clip(size)
	if err != nil || first != r.Offset || last != first+want-1 || n != want {
		return 0, fmt.Errorf("asked for %d bytes from %d on, got Content-Range %q and Content-Length %d", r.Length, r.Offset, got, n)
	}
	info.Size = size
	return n, nil
}

// object is the body of a Get: exactly left more bytes of one version of an object, over as many connections as it takes.
type object struct {
	b       *Bucket
	ctx     context.Context
	info    bucket.Info
	body    io.ReadCloser
	at      int64 // offset in the object of the next byte
	left    int64
	resumed int
	failed  error
}

func (o *object) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if o.failed != nil {
			return 0, o.failed
		}
		if o.left == 0 {
			return 0, io.EOF
		}
		n, err := o.body.Read(p[:min(int64(len(p)), o.left)])
		o.at += int64(n)
		o.left -= int64(n)
		if n > 0 {
			return n, nil // what broke, if anything, the next Read finds again
		}
		if err != nil {
			o.failed = o.resume(err)
		}
	}
}

// resume opens the rest of the object after the body broke with err. The attempts of the whole Get are bounded: a body
// that yields a byte per connection does not go on for ever.
func (o *object) resume(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if ended := o.ctx.Err(); ended != nil {
		return o.b.fault(o.ctx, bucket.OpGet, o.info.Key, ended)
	}
	broke := &bucket.Error{Op: bucket.OpGet, Bucket: o.b.o.Bucket, Key: o.info.Key, Kind: bucket.ErrUnreachable, Cause: err,
		Detail: fmt.Sprintf("the body broke at byte %d, %d bytes missing, after %d attempts: %s", o.at, o.left, o.resumed+1, innermost(err)),
		Fix:    o.b.unreachableFix(err)}
	if o.resumed+1 >= o.b.o.MaxAttempts || o.info.ETag == "" || strings.HasPrefix(o.info.ETag, "W/") {
		return broke
	}
	o.resumed++
	if err := pause(o.ctx, o.resumed, o.b.o.MaxBackoff); err != nil {
		return o.b.fault(o.ctx, bucket.OpGet, o.info.Key, err)
	}
	_ = o.body.Close() // broken already
	body, info, n, err := o.b.open(o.ctx, bucket.OpGet, o.info.Key, bucket.Range{Offset: o.at, Length: o.left}, o.info.ETag)
	if err != nil {
		return fmt.Errorf("resume at byte %d: %w", o.at, err)
	}
	o.body = body
	if n != o.left || info.Size != o.info.Size && o.at > 0 {
		return o.b.malformed(bucket.OpGet, o.info.Key, fmt.Sprintf("resumed at byte %d with %d bytes to come, got %d", o.at, o.left, n))
	}
	return nil
}

// Close implements io.Closer.
func (o *object) Close() error {
	o.failed = errors.New("read of a body that is closed")
	return o.body.Close()
}

// pause waits before attempt n (1 is the first repetition): up to 50 ms, doubled each time, at most limit.
func pause(ctx context.Context, n int, limit time.Duration) error {
	const base = 50 * time.Millisecond
	d := min(base<<min(n-1, 16), limit)
	t := time.NewTimer(time.Duration(rand.Int64N(int64(d) + 1)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
