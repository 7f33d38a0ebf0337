package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	mh "github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

const (
	extOpen    = ".open"
	extTmp     = ".tmp"
	extDamaged = ".damaged"
)

// stem is the name of a segment that is not sealed, without its extension.
func stem(id pack.ID, writer string) string { return id.String() + "-" + writer }

// parseStem reads the name of a file with extension ext.
func parseStem(name, ext string) (id pack.ID, writer string, ok bool) {
	s, ok := strings.CutSuffix(name, ext)
	if !ok {
		return 0, "", false
	}
	first, writer, ok := strings.Cut(s, "-")
	if !ok || pack.CheckWriter(writer) != nil {
		return 0, "", false
	}
	id, err := pack.ParseID(first)
	return id, writer, err == nil
}

// A Segment is a file of the journal. What [Journal.Next] returns is sealed: a
// whole pack. Safe for concurrent use.
type Segment struct {
	id     pack.ID
	writer string
	born   time.Time // when the first block came

	// Owned by the committer, then by the sealer.
	w        *pack.Writer
	dirEntry bool // the folder was synced since the file was made

	// Guarded by Journal.mu.
	cost   int64 // bytes of room
	blocks int
	sealed pack.Sealed // zero until sealed
	failed error       // why the file cannot be sealed where it is

	mu   sync.RWMutex // taken for writing when the file is replaced or closed
	file vfs.File     // nil when closed
	path string
	end  int64 // of the sections that are durable, in bytes
}

// ID of the segment and of the pack that it becomes.
func (s *Segment) ID() pack.ID { return s.id }

// Name that the pack has in the bucket.
func (s *Segment) Name() pack.Name { return s.sealed.Name }

// Size of the pack in bytes.
func (s *Segment) Size() int64 { return s.sealed.Size }

// Blocks is how many blocks are in the pack.
func (s *Segment) Blocks() int { return s.sealed.Blocks }

// Born is when the oldest block was taken, to the millisecond at least.
func (s *Segment) Born() time.Time { return s.born }

// ReadAt reads the pack: with an [io.SectionReader] of Size bytes, the body of
// the upload. It does not verify what it reads. After [Journal.Remove] it fails
// with [ErrNoSegment].
func (s *Segment) ReadAt(p []byte, off int64) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.file == nil {
		return 0, fmt.Errorf("segment %s: %w", s.id, ErrNoSegment)
	}
	return s.file.ReadAt(p, off)
}

// Entries reads the index of the pack: by rising offset, hence in the order in
// which the blocks came.
func (s *Segment) Entries() ([]pack.Entry, error) {
	return pack.ReadIndex(s, s.sealed.Name, s.sealed.Size)
}

// Verify reads and hashes all that is in the pack. The error names the first
// section that is damaged, and then matches pack.ErrCorrupt. Worth its while
// before an upload: after it, the journal's copy is deleted.
func (s *Segment) Verify() error {
	if err := pack.CheckHeader(s, s.sealed.Name); err != nil {
		return err
	}
	if _, err := s.Entries(); err != nil {
		return err
	}
	for _, err := range pack.Sections(io.NewSectionReader(s, 0, s.sealed.Size)) {
		if err != nil {
			return s.named(err)
		}
	}
	return nil
}

// named puts the name of the file into an error about damage.
func (s *Segment) named(err error) error {
	var c *pack.CorruptError
	if errors.As(err, &c) {
		named := *c
		s.mu.RLock()
		named.File = s.path
		s.mu.RUnlock()
		return &named
	}
	return fmt.Errorf("segment %s: %w", s.id, err)
}

// get reads and verifies one block.
func (s *Segment) get(loc Location, h mh.Multihash) ([]byte, error) {
	bad := func(reason string) error {
		return s.named(&pack.CorruptError{Offset: loc.Offset, Multihash: h, Reason: reason})
	}
	s.mu.RLock()
	end, open := s.end, s.file != nil
	s.mu.RUnlock()
	switch {
	case !open:
		return nil, fmt.Errorf("segment %s: %w", s.id, ErrNoSegment)
	case loc.Offset < pack.FirstSection || loc.Length < 0 || loc.Length > pack.MaxSectionLen || loc.Offset > end-loc.Length:
		return nil, bad(fmt.Sprintf("%d bytes there are beyond the segment's %d", loc.Length, end))
	}
	b := make([]byte, loc.Length)
	if n, err := s.ReadAt(b, loc.Offset); n < len(b) {
		if errors.Is(err, io.EOF) {
			return nil, bad("the file ends before it")
		}
		return nil, fmt.Errorf("read block %s from segment %s at %d: %w", h.HexString(), s.id, loc.Offset, err)
	}
	sec, err := pack.DecodeSection(b)
	if err != nil {
		return nil, bad(err.Error())
	}
	if sec.Length != loc.Length || !bytes.Equal(sec.Multihash, h) {
		return nil, bad("another block is in its place")
	}
	if err := pack.Verify(sec.Multihash, sec.Data); err != nil {
		return nil, bad(err.Error())
	}
	return sec.Data, nil
}

// replace puts a new file in the place of the old one.
func (s *Segment) replace(f vfs.File, path string) {
	s.mu.Lock()
	old := s.file
	s.file, s.path = f, path
	s.mu.Unlock()
	if old != nil {
		_ = old.Close() // nothing was written to it that is still wanted
	}
}

// location returns where a person finds the segment.
func (s *Segment) location() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.path
}

func (s *Segment) durableEnd() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.end
}
