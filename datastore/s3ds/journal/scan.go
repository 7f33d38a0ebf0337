package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	mh "github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// walk calls f with the header of each section between from and end, which must
// both be boundaries of sections. Data is neither read nor verified.
func walk(r io.ReaderAt, from, end int64, f func(off int64, h pack.Header) error) error {
	br := bufio.NewReaderSize(io.NewSectionReader(r, from, end-from), 64<<10)
	for off := from; off < end; {
		b, err := br.Peek(int(min(pack.MaxHeader, end-off)))
		if err != nil {
			return fmt.Errorf("read at %d: %w", off, err)
		}
		h, err := pack.DecodeHeader(b)
		if err != nil {
			return &pack.CorruptError{Offset: off, Reason: err.Error()}
		}
		if err := f(off, h); err != nil {
			return err
		}
		if _, err := br.Discard(int(h.Length)); err != nil {
			return fmt.Errorf("read at %d: %w", off, err)
		}
		off += h.Length
	}
	return nil
}

// A Finding is a stretch of a file in which recovery found no block.
type Finding struct {
	File      string
	Offset    int64        // bytes from the start of the file
	Bytes     int64        // from Offset on
	Multihash mh.Multihash // of the block that begins there, nil when illegible
	Reason    string
}

func (f Finding) String() string {
	s := fmt.Sprintf("%s: %d bytes at %d", f.File, f.Bytes, f.Offset)
	if f.Multihash != nil {
		s += " (block " + f.Multihash.HexString() + ")"
	}
	return s + ": " + f.Reason
}

// An extent is a run of good sections.
type extent struct{ from, end int64 }

// scan looks for good sections in a file of size bytes, whatever is in it.
// Only failures to read are errors.
func scan(r io.ReaderAt, size int64) (good []extent, damaged []Finding, cut *Finding, err error) {
	s := scanner{r: r, size: size, budget: 5*size + 64<<20} // reading all takes one size
	for off := int64(pack.FirstSection); off < size; {
		h, why, err := s.section(off)
		if err != nil {
			return nil, nil, nil, err
		}
		if why == nil {
			if n := len(good); n > 0 && good[n-1].end == off {
				good[n-1].end += h.Length
			} else {
				good = append(good, extent{off, off + h.Length})
			}
			off += h.Length
			continue
		}
		bad := Finding{Offset: off, Multihash: bytes.Clone(h.Multihash), Reason: why.Error()}
		next, err := s.resync(off + 1)
		if err != nil {
			return nil, nil, nil, err
		}
		switch {
		case next < 0 && s.budget > 0:
			bad.Bytes = size - off
			return good, damaged, &bad, nil
		case next < 0:
			next = size
			bad.Reason += "; gave up the search for sections behind it"
		}
		bad.Bytes = next - off
		damaged = append(damaged, bad)
		off = next
	}
	return good, damaged, nil, nil
}

type scanner struct {
	r      io.ReaderAt
	size   int64
	buf    []byte
	budget int64 // bytes that may still be hashed, against crafted blocks
}

// section reads and verifies the section at off; why says what is wrong with
// it, and h is then what of its header was legible.
func (s *scanner) section(off int64) (h pack.Header, why, err error) {
	if s.buf == nil {
		s.buf = make([]byte, pack.MaxHeader)
	}
	b := s.buf[:min(pack.MaxHeader, s.size-off)]
	if err := readFull(s.r, b, off); err != nil {
		return h, nil, err
	}
	h, why = pack.DecodeHeader(b)
	if why != nil {
		return pack.Header{}, why, nil
	}
	if h.Length > s.size-off {
		h.Multihash = bytes.Clone(h.Multihash)
		return h, fmt.Errorf("%w: section of %d bytes ends after %d", pack.ErrCorrupt, h.Length, s.size-off), nil
	}
	if int64(len(s.buf)) < h.Length {
		s.buf = make([]byte, h.Length)
	}
	b = s.buf[:h.Length]
	s.budget -= h.Length
	if err := readFull(s.r, b, off); err != nil {
		return h, nil, err
	}
	sec, why := pack.DecodeSection(b)
	if why == nil {
		why = pack.Verify(sec.Multihash, sec.Data)
	}
	h.Multihash = sec.Multihash
	return h, why, nil
}

// resync returns the first offset from off on at which a good section is, -1
// for none. It looks for the two bytes with which every CID here begins, and
// then for a length in front of them.
func (s *scanner) resync(off int64) (int64, error) {
	const window = 64 << 10
	mark := []byte{0x01, 0x55}
	buf := make([]byte, window)
	for base := off; base < s.size; base += window - 1 { // the mark may lie across
		b := buf[:min(window, s.size-base)]
		if err := readFull(s.r, b, base); err != nil {
			return 0, err
		}
		for at := 0; ; at++ {
			i := bytes.Index(b[at:], mark)
			if i < 0 {
				break
			}
			at += i
			for n := int64(4); n >= 1; n-- { // the length takes 1 to 4 bytes
				start := base + int64(at) - n
				if start < off {
					continue
				}
				_, why, err := s.section(start)
				if err != nil {
					return 0, err
				}
				if why == nil {
					return start, nil
				}
				if s.budget <= 0 {
					return -1, nil
				}
			}
		}
	}
	return -1, nil
}

func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(b), off, err)
}

// sealedCopy is a sealed segment that was made from an older file.
type sealedCopy struct {
	file   vfs.File
	path   string
	sealed pack.Sealed
}

// copySections makes a sealed segment of the sections in extents, each of which
// it verifies. When it returns, the copy is durable and has its final name,
// though the folder is not yet synced.
func (j *Journal) copySections(r io.ReaderAt, id pack.ID, writer string, extents []extent) (sealedCopy, error) {
	tmp := j.path(stem(id, writer) + extTmp)
	f, err := j.fs.OpenReadWrite(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return sealedCopy{}, j.advise("make "+tmp, err)
	}
	sealed, err := j.writeCopy(f, r, id, writer, extents)
	path := j.path(sealed.Name.String())
	if err == nil {
		err = j.fs.Rename(tmp, path)
	}
	if err != nil {
		// What stays is overwritten by the next attempt or removed by Open.
		_ = f.Close()
		_ = j.fs.Remove(tmp)
		return sealedCopy{}, j.advise("copy to "+tmp, err)
	}
	return sealedCopy{f, path, sealed}, nil
}

func (j *Journal) writeCopy(f vfs.File, r io.ReaderAt, id pack.ID, writer string, extents []extent) (pack.Sealed, error) {
	w := pack.NewWriter(f)
	var buf []byte
	for _, x := range extents {
		err := walk(r, x.from, x.end, func(off int64, h pack.Header) error {
			if int64(cap(buf)) < h.Length {
				buf = make([]byte, h.Length)
			}
			buf = buf[:h.Length]
			if err := readFull(r, buf, off); err != nil {
				return err
			}
			sec, err := pack.DecodeSection(buf)
			if err == nil {
				err = pack.Verify(sec.Multihash, sec.Data)
			}
			if err != nil {
				return &pack.CorruptError{Offset: off, Multihash: bytes.Clone(h.Multihash), Reason: err.Error()}
			}
			_, err = w.Append(pack.Block{Multihash: sec.Multihash, Data: sec.Data})
			return err
		})
		if err != nil {
			return pack.Sealed{}, err
		}
	}
	sealed, err := w.Seal(id, writer)
	if err != nil {
		return pack.Sealed{}, err
	}
	return sealed, f.Sync()
}
