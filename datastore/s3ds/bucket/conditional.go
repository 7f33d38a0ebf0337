package bucket

import (
	"context"
	"io"
)

// Condition is what must hold of an object at the moment it is written. Exactly one of the fields is set.
type Condition struct {
	Absent bool   // there is no object of that name
	ETag   string // there is one, and this is its ETag: nobody wrote it since that was read
}

func (c Condition) String() string {
	if c.Absent {
		return "if absent"
	}
	return "if unchanged"
}

// Conditional is a Bucket that can write under a condition, which makes an object a lock that two processes can agree on. All
// implementations and decorators here are; on one of a foreign make, PutIf says ErrUnsupported.
type Conditional interface {
	Bucket

	// PutIf is Put if cond holds, judged by the server in one step with the write, so that of any number of writers with
	// one condition one succeeds. It describes the object that it wrote. ErrPreconditionFailed: cond did not hold. That also
	// happens to a writer whose first attempt succeeded while its answer was lost: read the object to know.
	PutIf(ctx context.Context, key string, body io.ReadSeeker, cond Condition) (Info, error)
}

// PutIf calls PutIf of a bucket that can, and is ErrUnsupported for one that cannot.
func PutIf(ctx context.Context, b Bucket, key string, body io.ReadSeeker, cond Condition) (Info, error) {
	c, ok := b.(Conditional)
	if !ok {
		return Info{}, &Error{Op: OpPut, Key: key, Kind: ErrUnsupported}
	}
	return c.PutIf(ctx, key, body, cond)
}
