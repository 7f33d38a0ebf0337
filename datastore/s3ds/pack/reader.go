package pack

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
)

// ReadIndex reads the index of the pack called n, size bytes long, with one
// ReadAt of exactly the index. Errors other than those of r match [ErrCorrupt].
func ReadIndex(r io.ReaderAt, n Name, size int64) ([]Entry, error) {
	off, length, err := n.IndexRange(size)
	if err != nil {
		return nil, err
	}
	b := make([]byte, length)
	if k, err := r.ReadAt(b, off); k < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read index of pack %s: %w", n, err)
	}
	return n.DecodeIndex(b)
}

// CheckHeader reads the first bytes of the pack called n and compares them
// with what its name says. Errors other than those of r match [ErrCorrupt].
func CheckHeader(r io.ReaderAt, n Name) error {
	b := make([]byte, FirstSection)
	k, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read header of pack %s: %w", n, err)
	}
	off, err := decodePrologue(b[:k])
	if err != nil {
		return fmt.Errorf("header of pack %s: %w", n, err)
	}
	if off != n.IndexOffset {
		return fmt.Errorf("header of pack %s: %w: index at %d, which is not what the name says", n, ErrCorrupt, off)
	}
	return nil
}

// Sections reads a sealed pack from its first byte and yields its sections in
// order, each verified. It stops before the index, which it does not read, and
// at the first error: one of r, or one that matches [ErrCorrupt] and, for a
// damaged section, is a *[CorruptError]. A section's bytes are valid until the
// next one is asked for. Memory is one section and a small read buffer.
func Sections(r io.Reader) iter.Seq2[Section, error] {
	return func(yield func(Section, error) bool) {
		if err := sections(r, yield); err != nil {
			yield(Section{}, err)
		}
	}
}

func sections(src io.Reader, yield func(Section, error) bool) error {
	r := bufio.NewReaderSize(src, 64<<10)
	head := make([]byte, FirstSection)
	if _, err := io.ReadFull(r, head); err != nil {
		return unexpected(fmt.Errorf("read header of pack: %w", err))
	}
	end, err := decodePrologue(head)
	if err != nil {
		return err
	}
	if end <= FirstSection {
		return fmt.Errorf("%w: it was never sealed", ErrCorrupt)
	}
	var buf []byte
	for off := int64(FirstSection); off < end; {
		peek, err := r.Peek(int(min(MaxHeader, end-off)))
		if err != nil {
			return unexpected(fmt.Errorf("read section at %d: %w", off, err))
		}
		h, err := DecodeHeader(peek)
		if err != nil {
			return &CorruptError{Offset: off, Reason: err.Error()}
		}
		if h.Length > end-off {
			return &CorruptError{Offset: off, Multihash: cloneBytes(h.Multihash), Reason: "section runs into the index"}
		}
		if int64(cap(buf)) < h.Length {
			buf = make([]byte, h.Length)
		}
		buf = buf[:h.Length]
		if _, err := io.ReadFull(r, buf); err != nil {
			return unexpected(fmt.Errorf("read section at %d: %w", off, err))
		}
		s, err := DecodeSection(buf)
		if err == nil {
			err = Verify(s.Multihash, s.Data)
		}
		if err != nil {
			return &CorruptError{Offset: off, Multihash: cloneBytes(s.Multihash), Reason: err.Error()}
		}
		s.Offset = off
		if !yield(s, nil) {
			return nil
		}
		off += h.Length
	}
	return nil
}

// unexpected marks a stream that ends too early as corrupt.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

func cloneBytes[T ~[]byte](b T) T { return append(T(nil), b...) }
