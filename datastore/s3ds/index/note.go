package index

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Note says up to which change of the store an index is true: a record of a log that the store keeps elsewhere. The index knows nothing of
// its meaning.
type Note struct {
	Session string // of the process that wrote the record
	Seq     uint64 // its number
}

const maxSession = 64 // bytes

// appendNote encodes a note: uvarint length, session | uvarint number.
func appendNote(b []byte, n Note) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(n.Session))), n.Session...)
	return binary.AppendUvarint(b, n.Seq)
}

func decodeNote(b []byte) (Note, error) {
	r := varints{b: b}
	n := Note{Session: string(r.bytes(maxSession)), Seq: r.uint64()}
	if err := r.end(); err != nil {
		return Note{}, fmt.Errorf("note: %w", err)
	}
	return n, nil
}

func loadNote(db *pebble.DB) (n Note, has bool, err error) {
	b, closer, err := db.Get(noteKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return Note{}, false, nil
	} else if err != nil {
		return Note{}, false, classify("read the note", err)
	}
	n, err = decodeNote(b)
	if err := errors.Join(err, closer.Close()); err != nil {
		return Note{}, false, corrupt("read the note", err)
	}
	return n, true, nil
}

// Noted returns the note of the last Commit that made one; false if there was none.
func (x *Index) Noted() (Note, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.noted, x.hasNote
}
