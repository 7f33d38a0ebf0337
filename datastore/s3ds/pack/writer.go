package pack

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// flushBytes is how much a Writer gathers before it writes. 1 MiB is the
// largest write of an NFS client, and so of EFS: larger ones gain nothing.
const flushBytes = 1 << 20

// A Writer lays out a pack in a file. Blocks may be read back from the file
// once [Writer.Flush] has returned.
//
// A Writer is not safe for concurrent use. After an error it is of no further
// use, as is the part of the file beyond what was flushed (and synced, where
// that matters): the caller drops both. Memory is 1 MiB, one section, and the
// index.
type Writer struct {
	f     io.WriterAt
	buf   []byte
	start int64 // of buf in the file
	index indexBuilder
	err   error
}

// NewWriter begins a pack in f, which must be empty.
func NewWriter(f io.WriterAt) *Writer {
	return &Writer{f: f, buf: Prologue(0)}
}

// Size is the length of the pack so far in bytes, buffered bytes included,
// without an index.
func (w *Writer) Size() int64 { return w.start + int64(len(w.buf)) }

// IndexSize bounds the length of the index so far, in bytes.
func (w *Writer) IndexSize() int64 { return w.index.size }

// Blocks is how many blocks the pack has so far.
func (w *Writer) Blocks() int { return w.index.blocks }

// Append adds a block and returns where its section is. The block is not
// verified, and not referred to once Append has returned. Errors that match
// [ErrTooLarge] or [ErrUnknownHash] refuse the block and leave the Writer
// usable.
func (w *Writer) Append(b Block) (Entry, error) {
	if w.err != nil {
		return Entry{}, w.err
	}
	off := w.Size()
	buf, err := AppendSection(w.buf, b)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Multihash: b.Multihash, Offset: off, Length: int64(len(buf) - len(w.buf))}
	w.buf = buf
	if err := w.index.add(b.Multihash, off); err != nil {
		w.err = err
		return Entry{}, err
	}
	if len(w.buf) >= flushBytes {
		if err := w.Flush(); err != nil {
			return Entry{}, err
		}
	}
	return e, nil
}

// Flush writes what is buffered. It does not sync the file.
func (w *Writer) Flush() error {
	if w.err != nil || len(w.buf) == 0 {
		return w.err
	}
	if err := writeAt(w.f, w.buf, w.start); err != nil {
		w.err = fmt.Errorf("write %d bytes at %d: %w", len(w.buf), w.start, err)
		return w.err
	}
	w.start += int64(len(w.buf))
	if cap(w.buf) > 2*flushBytes {
		w.buf = nil // one huge block must not pin its buffer
	}
	w.buf = w.buf[:0]
	return nil
}

// Sealed describes a finished pack.
type Sealed struct {
	Name   Name
	Size   int64 // of the file, in bytes
	Blocks int
}

// Seal completes the pack: index, then header. The caller syncs the file, and
// only then gives it its name. No call may follow.
func (w *Writer) Seal(id ID, writer string) (Sealed, error) {
	if w.err == nil && w.index.blocks == 0 {
		w.err = ErrEmpty
	}
	if err := w.Flush(); err != nil {
		return Sealed{}, err
	}
	s := Sealed{Name: Name{ID: id, Writer: writer, IndexOffset: w.start}, Blocks: w.index.blocks}
	if err := s.Name.check(); err != nil {
		return Sealed{}, err
	}
	w.err = errors.New("pack is sealed")
	out := &indexWriter{f: w.f, off: w.start}
	if err := w.index.writeTo(out); err != nil {
		return Sealed{}, fmt.Errorf("write index at %d: %w", w.start, err)
	}
	if out.off-w.start > MaxIndex {
		return Sealed{}, fmt.Errorf("index of %d blocks takes %d bytes: %w: at most %d", s.Blocks, out.off-w.start, ErrTooLarge, MaxIndex)
	}
	if err := writeAt(w.f, Prologue(w.start), 0); err != nil {
		return Sealed{}, fmt.Errorf("write header: %w", err)
	}
	s.Name.IndexCRC = out.crc
	s.Size = out.off
	return s, nil
}

// indexWriter writes on at the end of the sections and sums as it goes.
type indexWriter struct {
	f   io.WriterAt
	off int64
	crc uint32
}

func (x *indexWriter) Write(p []byte) (int, error) {
	x.crc = crc32.Update(x.crc, castagnoli, p)
	if err := writeAt(x.f, p, x.off); err != nil {
		return 0, err
	}
	x.off += int64(len(p))
	return len(p), nil
}

// writeAt takes a short write for the error that it is.
func writeAt(f io.WriterAt, p []byte, off int64) error {
	n, err := f.WriteAt(p, off)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}
