package chain

import (
	"errors"
	"fmt"
	"time"
)

// What an error can be tested for with errors.Is.
var (
	// ErrFenced: another process has taken the chain over. For good. See FencedError.
	ErrFenced = errors.New("another process has taken the chain over")
	// ErrClosed: Close or Abandon was called.
	ErrClosed = errors.New("the chain is closed")
	// ErrDamaged: objects of the chain are missing or altered.
	ErrDamaged = errors.New("the chain is damaged")
	// ErrNone: there is no record yet behind the ones that a Follower has read.
	ErrNone = errors.New("no record yet")
	// ErrGap: records that a Follower has not read were trimmed: start over from the snapshot.
	ErrGap = errors.New("records were trimmed")
)

// FencedError names the process that took over. It matches ErrFenced.
type FencedError struct {
	Root string
	By   Record // its newest record; zero if that could not be read
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("%v: under %q, %s", ErrFenced, e.Root, e.By.describe())
}

// Is makes errors.Is(err, ErrFenced) true.
func (e *FencedError) Is(target error) bool { return target == ErrFenced }

// describe names the process that wrote a record.
func (r Record) describe() string {
	if r.Session == "" {
		return "by a process whose record could not be read"
	}
	return fmt.Sprintf("node %q on host %q, epoch %d, %s", r.Node, r.Host, r.Epoch, r.At.UTC().Format(time.RFC3339))
}
