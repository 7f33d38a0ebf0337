package s3ds

import (
	"errors"
	"fmt"
	"time"
)

// What an error about the owner of a prefix can be tested for with errors.Is.
var (
	// ErrOwned: another node owns the prefix. See OwnedError.
	ErrOwned = errors.New("prefix is owned by another node")
	// ErrReplaced: this process owned the prefix, and another one does now. For good. See ReplacedError.
	ErrReplaced = errors.New("another node has taken over the prefix")
)

// OwnedError names the node that is in the way. It matches ErrOwned.
type OwnedError struct {
	Node, Host string
	Epoch      uint64
	Seen       time.Time // when that node wrote this, by its clock
	Copy       bool      // it has the id of this node: one of the two repos is a copy
	May        bool      // Config.TakeOver would take the prefix over
	Until      time.Time // of a former release: when its lease ends, by the clock of the server
}

func (e *OwnedError) Error() string {
	who := fmt.Sprintf("node %q on host %q, epoch %d, seen at %s", e.Node, e.Host, e.Epoch, e.Seen.UTC().Format(time.RFC3339))
	switch {
	case !e.May:
		until := ", for as long as its lease lasts"
		if !e.Until.IsZero() {
			until = " until " + e.Until.UTC().Format(time.RFC3339)
		}
		return fmt.Sprintf("%v: %s, which runs a former release and has it%s: stop that node, or give this one a rootDirectory of its own; if that node is dead, start again later",
			ErrOwned, who, until)
	case e.Copy:
		return fmt.Sprintf("%v: %s. That is the id of this node: this repo is a copy of the other one, or was moved or restored while the other one was not stopped in order. "+
			"Stop the other one, or give this one a rootDirectory of its own, and remove its journalPath; if the other one is dead, %s", ErrOwned, who, takeItOver)
	}
	return fmt.Sprintf("%v: %s, which was not stopped in order and may be idle: stop it, or give this one a rootDirectory of its own; if that node is dead, or has to leave, %s",
		ErrOwned, who, takeItOver)
}

const takeItOver = "take the prefix over with IPFS_S3_TAKE_OVER=1 for one start, or `init --take-over`"

// Is makes errors.Is(err, ErrOwned) true.
func (e *OwnedError) Is(target error) bool { return target == ErrOwned }

// ReplacedError names the node that took over. It matches ErrReplaced.
type ReplacedError struct {
	Node, Host string // empty if that could not be read
	Epoch      uint64
	At         time.Time // by the clock of that node
}

func (e *ReplacedError) Error() string {
	return fmt.Sprintf("%v: node %q on host %q, epoch %d, at %s. This node writes nothing more; what it acknowledged and did not upload is in its journal. "+
		"To go on with the other node, stop this one. To go on with this one, stop the other one and start this one with IPFS_S3_TAKE_OVER=1, "+
		"which is not needed if the other one was stopped in order", ErrReplaced, e.Node, e.Host, e.Epoch, e.At.UTC().Format(time.RFC3339))
}

// Is makes errors.Is(err, ErrReplaced) true.
func (e *ReplacedError) Is(target error) bool { return target == ErrReplaced }
