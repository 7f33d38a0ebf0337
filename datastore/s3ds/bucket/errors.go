package bucket

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What a Bucket's error can be tested for with errors.Is.
var (
	// ErrNotFound: the bucket exists, answered, and holds no object of that name.
	ErrNotFound = errors.New("object not found")
	// ErrInvalidRange: the range begins at or behind the end of the object.
	ErrInvalidRange = errors.New("range not satisfiable")
	// ErrPreconditionFailed: the Condition of a PutIf did not hold.
	ErrPreconditionFailed = errors.New("precondition failed")
	// ErrUnsupported: the bucket does not know how to do that.
	ErrUnsupported = errors.New("not supported by this bucket")
	// ErrNoBucket: there is no such bucket.
	ErrNoBucket = errors.New("bucket does not exist")
	// ErrAccessDenied: credentials were sent and refused for this operation.
	ErrAccessDenied = errors.New("access denied")
	// ErrWrongRegion: the bucket is in another region than the one configured.
	ErrWrongRegion = errors.New("wrong region")
	// ErrNoCredentials: there are no credentials to sign a request with.
	ErrNoCredentials = errors.New("no credentials")
	// ErrUnreachable: no complete answer came from the endpoint: name not resolved, connection refused or broken, timeout.
	ErrUnreachable = errors.New("endpoint unreachable")
	// ErrThrottled: the server asked for fewer requests for longer than retries lasted.
	ErrThrottled = errors.New("throttled")
	// ErrServer: the server failed (5xx) for longer than retries lasted.
	ErrServer = errors.New("server error")
	// ErrRejected: the server understood the request and refuses it for a reason that is none of the above.
	ErrRejected = errors.New("request rejected")
	// ErrArchived: the object was moved to a storage class from which it has to be restored first. It matches ErrRejected.
	ErrArchived = fmt.Errorf("%w: the object is archived", ErrRejected)
)

// Error says what was being done to which object, what went wrong, and what an operator can do about it, in one line.
type Error struct {
	Op     Op
	Bucket string
	Key    string // empty where the operation is about the bucket
	Kind   error  // one of the Err… values
	Detail string // what the server or the network said; one line, no secrets
	Fix    string // what to do; may be empty
	Cause  error  // for errors.As; not printed
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s ", e.Op)
	if e.Key != "" {
		fmt.Fprintf(&b, "object %q in ", e.Key)
	}
	fmt.Fprintf(&b, "bucket %q: %v", e.Bucket, e.Kind)
	if e.Detail != "" {
		fmt.Fprintf(&b, " (%s)", OneLine(e.Detail))
	}
	if e.Fix != "" {
		fmt.Fprintf(&b, ": %s", OneLine(e.Fix))
	}
	return b.String()
}

// Unwrap makes both the kind and the cause visible to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// DeleteError names the objects that Delete could not remove, with the reason for each.
type DeleteError struct {
	Failed map[string]error
}

// shownKeys is how many keys a DeleteError prints: a line that an operator can read. Failed has them all.
const shownKeys = 3

func (e *DeleteError) Error() string {
	keys := e.keys()
	shown := make([]string, 0, shownKeys)
	for _, k := range keys[:min(len(keys), shownKeys)] {
		shown = append(shown, fmt.Sprintf("%q", k))
	}
	more := ""
	if n := len(keys) - len(shown); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	var first error
	if len(keys) > 0 {
		first = e.Failed[keys[0]]
	}
	return fmt.Sprintf("%d objects not deleted, %s%s: %v", len(keys), strings.Join(shown, ", "), more, first)
}

// Unwrap returns the reason for each key, in key order.
func (e *DeleteError) Unwrap() []error {
	errs := make([]error, 0, len(e.Failed))
	for _, k := range e.keys() {
		errs = append(errs, e.Failed[k])
	}
	return errs
}

func (e *DeleteError) keys() []string {
	keys := make([]string, 0, len(e.Failed))
	for k := range e.Failed {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// OneLine folds all white space of s to single spaces, so that an error stays one line in a log.
func OneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
