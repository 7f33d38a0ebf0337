package bucket

import (
	"context"
	"io"
	"iter"
	"time"
)

// Bucket is a store of named objects. Keys are non-empty UTF-8 without a leading slash, at most 1,024 bytes.
// Implementations are safe for concurrent use, and retry by themselves what is worth retrying: an error they
// return is final for that call. Errors can be tested with errors.Is against the Err… values of this package.
type Bucket interface {
	// Put stores the body, from its current position to its end, under key and replaces what was there. It is durable
	// when Put returns nil. The body is read more than once (checksum, retries), never after Put has returned.
	Put(ctx context.Context, key string, body io.ReadSeeker) error

	// Get opens range r of an object for reading; the zero Range is the whole object. Info describes the
	// whole object, whatever the range. The body streams: memory does not grow with the range. It must be closed, and
	// obeys ctx until then. ErrNotFound: no such object; ErrInvalidRange: r begins at or behind its end.
	Get(ctx context.Context, key string, r Range) (io.ReadCloser, Info, error)

	// Head describes an object without reading it. ErrNotFound: no such object.
	Head(ctx context.Context, key string) (Info, error)

	// List yields every object whose key begins with prefix and sorts behind after (bytewise; "" for all), in key
	// order, one page of up to 1,000 at a time. An error is yielded once, and ends the sequence. Objects put
	// or removed meanwhile may or may not be seen; all others are seen exactly once.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Delete removes objects, any number of them; keys that are not there are no error. If some could not be removed
	// the error is a *DeleteError, which names those; all others are gone.
	Delete(ctx context.Context, keys ...string) error

	// Check asks, with one request, whether the bucket exists and answers to these credentials.
	Check(ctx context.Context) error
}

// Info describes an object.
type Info struct {
	Key  string
	Size int64  // bytes
	ETag string // opaque; equal as long as the content is the same; may be empty

	// Modified is when the object was written, and Clock what the server's clock said when it described the object (zero in a List): to
	// the second, and zero where the server does not tell. One less the other is the age of the object, whatever the clock of this machine says.
	Modified, Clock time.Time
}

// Range selects bytes of an object: Length bytes from Offset on, fewer if the object ends earlier. Length 0 means
// to the end of the object, so the zero Range is the whole object, which may be empty.
type Range struct {
	Offset, Length int64 // bytes, not negative
}

// Whole reports whether r is the whole object.
func (r Range) Whole() bool { return r == Range{} }

// Clip returns the number of bytes that r selects of an object of the given size, or ErrInvalidRange if it
// begins at or behind the end (the whole of an empty object is valid).
func (r Range) Clip(size int64) (int64, error) {
	switch {
	case r.Whole():
		return size, nil
	case r.Offset < 0 || r.Length < 0 || r.Offset >= size:
		return 0, ErrInvalidRange
	case r.Length == 0 || r.Length > size-r.Offset:
		return size - r.Offset, nil
	}
	return r.Length, nil
}

// Op names an operation of Bucket, for decorators and errors.
type Op string

// The operations of Bucket.
const (
	OpPut    Op = "put"
	OpGet    Op = "get"
	OpHead   Op = "head"
	OpList   Op = "list"
	OpDelete Op = "delete"
	OpCheck  Op = "check"
)

// Ops are all operations, in the order in which reports show them.
var Ops = []Op{OpPut, OpGet, OpHead, OpList, OpDelete, OpCheck}
