package owner

import (
	"errors"
	"fmt"
	"time"
)

// What an error can be tested for with errors.Is.
var (
	// ErrOwned: another node owns the prefix, and its lease has not run out. See OwnedError.
	ErrOwned = errors.New("prefix is owned by another node")
	// ErrReplaced: this node owned the prefix, and another one does now. It lasts until Acquire succeeds again.
	ErrReplaced = errors.New("another node has taken over the prefix")
	// ErrReleased: Release was called.
	ErrReleased = errors.New("ownership was released")
)

// OwnedError names the node that is in the way. It matches ErrOwned.
type OwnedError struct {
	Key   string // of the object
	Owner Record
	// Expires is when the lease ends unless it is renewed, by the server's clock; zero if the server does not tell the time.
	Expires time.Time
}

func (e *OwnedError) Error() string {
	until := "until its lease has run out, which this server does not tell"
	if !e.Expires.IsZero() {
		until = "until " + e.Expires.Format(time.RFC3339)
	}
	return fmt.Sprintf("%v: %s, %s: stop that node, or give this one a rootDirectory of its own; if that node is dead, start again later",
		ErrOwned, describe(e.Key, e.Owner), until)
}

// Is makes errors.Is(err, ErrOwned) true.
func (e *OwnedError) Is(target error) bool { return target == ErrOwned }

// ReplacedError names the node that took over. It matches ErrReplaced.
type ReplacedError struct {
	Key   string
	Owner Record
}

func (e *ReplacedError) Error() string {
	return fmt.Sprintf("%v: %s: what this node acknowledged is in its journal; stop the other node and restart this one to go on writing here",
		ErrReplaced, describe(e.Key, e.Owner))
}

// Is makes errors.Is(err, ErrReplaced) true.
func (e *ReplacedError) Is(target error) bool { return target == ErrReplaced }

func describe(key string, r Record) string {
	return fmt.Sprintf("object %q names node %q on host %q, epoch %d, since %s", key, r.ID, r.Host, r.Epoch, r.Since.UTC().Format(time.RFC3339))
}
