package pack

import (
	"errors"
	"fmt"

	mh "github.com/multiformats/go-multihash"
)

var (
	// ErrCorrupt is matched by every error that says that bytes are not what
	// the format or a multihash says they must be.
	ErrCorrupt = errors.New("corrupt pack")

	// ErrTooLarge says that a block or a multihash does not fit into a section.
	ErrTooLarge = errors.New("block too large for a pack")

	// ErrUnknownHash says that a multihash names a hash function that this
	// build cannot compute, so that its block could never be verified.
	ErrUnknownHash = errors.New("unknown hash function")

	// ErrEmpty says that a pack without blocks was to be sealed.
	ErrEmpty = errors.New("a pack holds at least one block")
)

// A CorruptError names a section that is damaged. It matches [ErrCorrupt].
type CorruptError struct {
	// File is the pack or segment, when the one who found the damage knows it.
	File string
	// Offset of the section from the start of the file, in bytes.
	Offset int64
	// Multihash of the damaged block, nil when it is illegible.
	Multihash mh.Multihash
	// Reason in a few words.
	Reason string
}

func (e *CorruptError) Error() string {
	s := "corrupt pack"
	if e.File != "" {
		s += " " + e.File
	}
	s += fmt.Sprintf(": section at byte %d", e.Offset)
	if e.Multihash != nil {
		s += " (block " + e.Multihash.HexString() + ")"
	}
	return s + ": " + e.Reason
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
