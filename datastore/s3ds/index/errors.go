package index

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	crdb "github.com/cockroachdb/errors"
	"github.com/cockroachdb/pebble/v2"
)

// What an error of this package can be tested for with errors.Is.
var (
	// ErrNotFound: the index knows no such key or pack. Once Complete reports true this is knowledge: there is no such block.
	ErrNotFound = errors.New("not in the index")
	// ErrCorrupt: files of the index are missing, torn or altered. Nothing read from it was wrong, but it can no longer
	// be used: close it, Remove it, and rebuild it from the journal and the bucket.
	ErrCorrupt = errors.New("index is corrupt")
	// ErrForeign: the index belongs to another bucket, prefix or writer. Remove and rebuild, or correct the settings.
	ErrForeign = errors.New("index belongs to another store")
	// ErrFormat: another version of this software wrote the index in a format that this one does not read. Remove and rebuild.
	ErrFormat = errors.New("index has another format version")
	// ErrLocked: another process, or an index of this process that was not closed, has the folder open.
	ErrLocked = errors.New("index is in use")
	// ErrDiskFull: the disk of the index has no space left. Reads go on; writes are refused until there is space, and then
	// work again by themselves. A write that was under way when the disk filled up may be applied later, before any other.
	ErrDiskFull = errors.New("no space left on the disk of the index")
	// ErrStopped: a write to the disk of the index failed in a way that cannot be repeated safely (an I/O error, a failed
	// fsync). The process has to be restarted; what was committed is safe, the rest is replayed from the journal.
	ErrStopped = errors.New("index stopped after a failed write: restart the node")
	// ErrClosed: the index was closed.
	ErrClosed = errors.New("index is closed")
	// ErrPackInUse: the pack still has live blocks.
	ErrPackInUse = errors.New("pack has live blocks")
)

// corrupt marks err as a sign of corruption, with what was being done.
func corrupt(doing string, err error) error {
	if errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w: %w", doing, ErrCorrupt, err)
}

// diskFull reports whether err says that the disk, or the quota on it, is used up.
func diskFull(err error) bool {
	return crdb.Is(err, syscall.ENOSPC) || crdb.Is(err, syscall.EDQUOT)
}

// classify gives an error of Pebble the name that callers test for. Pebble marks most damage by itself; a missing or
// short file can reach us as the bare error of the file system.
func classify(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrStopped), errors.Is(err, ErrDiskFull):
		return fmt.Errorf("%s: %w", doing, err)
	case diskFull(err):
		return fmt.Errorf("%s: %w: %w", doing, ErrDiskFull, err)
	case pebble.IsCorruptionError(err), crdb.Is(err, os.ErrNotExist), crdb.Is(err, io.ErrUnexpectedEOF), crdb.Is(err, io.EOF):
		return corrupt(doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// classifyOpen is classify for what comes out of opening Pebble, where whatever the file system did not say itself is
// a complaint about content: a manifest, a marker or a log that does not add up.
func classifyOpen(doing string, err error) error {
	var errno syscall.Errno
	var path *os.PathError
	if c := classify(doing, err); errors.Is(c, ErrCorrupt) || errors.Is(c, ErrDiskFull) {
		return c
	}
	if crdb.As(err, &errno) || crdb.As(err, &path) || crdb.Is(err, os.ErrPermission) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return corrupt(doing, err)
}
