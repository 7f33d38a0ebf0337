package journal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

const lockFile = "LOCK"

// Recovery is what Open found.
type Recovery struct {
	Segments int
	Blocks   int
	Bytes    int64 // of the segments

	// Cut are tails of segments that were being written when the process or the
	// machine stopped. Their blocks were not acknowledged. Nothing to be done.
	Cut []Finding

	// Damaged are stretches with good sections after them, or parts of sealed
	// segments: most likely acknowledged blocks that the disk did not keep. The
	// original is kept as a file that ends in .damaged. An operator fetches the
	// blocks anew from wherever they are left.
	Damaged []Finding
}

// Open takes the journal in dir, which it makes if need be, and recovers what
// an earlier process left: every block whose Append returned is there, and
// blocks whose Append did not return may be.
//
// Locations from before remain right, except in segments that are named in
// Recovery.Damaged: there the good blocks have moved. The caller therefore
// brings its index up to date with [Journal.Blocks] after Open; a location that
// the index holds and Blocks does not yield is a damaged block, not a missing
// one.
//
// If the disk is too full to seal what was left, Open succeeds and the blocks
// are served from where they are; only a repair of damage insists on space.
func Open(dir string, opts Options) (*Journal, Recovery, error) {
	if err := opts.complete(); err != nil {
		return nil, Recovery{}, fmt.Errorf("journal %s: %w", dir, err)
	}
	j := &Journal{
		dir: dir, opts: opts, fs: opts.FS,
		room:      room{max: opts.MaxBytes},
		closing:   make(chan struct{}),
		kick:      make(chan struct{}, 1),
		committed: make(chan struct{}),
		kickSeal:  make(chan struct{}, 1),
		sealerEnd: make(chan struct{}),
		changed:   make(chan struct{}),
		segs:      make(map[pack.ID]*Segment),
	}
	if err := j.makeDir(); err != nil {
		return nil, Recovery{}, j.advise("make folder "+dir, err)
	}
	lock, err := j.fs.Lock(j.path(lockFile))
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EROFS) {
			return nil, Recovery{}, j.advise("lock "+dir, err)
		}
		return nil, Recovery{}, fmt.Errorf("journal %s: lock: %w: another process uses it, stop that one first", dir, err)
	}
	j.lock = lock
	rec, err := j.recover()
	if err != nil {
		for _, s := range j.segs {
			s.replace(nil, s.path)
		}
		return nil, rec, errors.Join(err, lock.Close())
	}
	go j.commitLoop()
	go j.sealLoop()
	return j, rec, nil
}

// makeDir makes the folder and those above it, durably.
func (j *Journal) makeDir() error {
	var parents []string // of folders that are missing
	for d := filepath.Clean(j.dir); ; d = filepath.Dir(d) {
		_, err := j.fs.Stat(d)
		if err == nil || filepath.Dir(d) == d {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		parents = append(parents, filepath.Dir(d))
	}
	if err := j.fs.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	for _, p := range parents {
		d, err := j.fs.OpenDir(p)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}

// found is a file of the journal.
type found struct {
	file   string
	id     pack.ID
	writer string
	name   pack.Name // of a sealed one
	sealed bool
}

func (j *Journal) recover() (Recovery, error) {
	var rec Recovery
	files, err := j.list()
	if err != nil {
		return rec, j.advise("read folder "+j.dir, err)
	}
	for _, f := range files {
		j.opts.IDs.See(f.id)
		if err := j.take1(f, &rec); err != nil {
			return rec, err
		}
	}
	// Before anything is handed out, removals and renames are for good.
	if err := j.syncDir(); err != nil {
		return rec, j.advise("sync folder "+j.dir, err)
	}
	for _, s := range j.segs {
		rec.Segments++
		rec.Blocks += s.blocks
		rec.Bytes += s.cost
		j.room.hold(s.cost)
		if s.sealed.Size > 0 {
			j.ready = append(j.ready, s)
		} else {
			j.finishing = append(j.finishing, s)
		}
	}
	slices.SortFunc(j.ready, byID)
	slices.SortFunc(j.finishing, byID)
	return rec, nil
}

// list returns the segments by ID, sealed ones before others of the same ID,
// and removes copies that were never finished.
func (j *Journal) list() ([]found, error) {
	names, err := j.fs.List(j.dir)
	if err != nil {
		return nil, err
	}
	var files []found
	for _, n := range names {
		if _, _, ok := parseStem(n, extTmp); ok {
			if err := j.fs.Remove(j.path(n)); err != nil {
				return nil, err
			}
			continue
		}
		if id, writer, ok := parseStem(n, extOpen); ok {
			files = append(files, found{file: n, id: id, writer: writer})
			continue
		}
		if name, err := pack.ParseName(n); err == nil {
			files = append(files, found{file: n, id: name.ID, writer: name.Writer, name: name, sealed: true})
		}
	}
	slices.SortFunc(files, func(a, b found) int {
		if c := cmp.Compare(a.id, b.id); c != 0 {
			return c
		}
		if a.sealed != b.sealed {
			if a.sealed {
				return -1
			}
			return 1
		}
		return strings.Compare(a.file, b.file)
	})
	return files, nil
}

// take1 takes one file into the journal.
func (j *Journal) take1(f found, rec *Recovery) error {
	path := j.path(f.file)
	if s := j.segs[f.id]; s != nil {
		if f.sealed {
			return j.twin(f, s)
		}
		// Sealing was interrupted after the sealed file had its name.
		if err := j.fs.Remove(path); err != nil {
			return j.advise("remove "+path, err)
		}
		return nil
	}
	file, err := j.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return j.advise("open "+path, err)
	}
	s := &Segment{id: f.id, writer: f.writer, born: f.id.Time(), file: file, path: path}
	keep, err := j.recoverSegment(s, f, rec)
	if err != nil || !keep {
		s.replace(nil, path)
		return err
	}
	j.segs[s.id] = s
	return nil
}

// twin deals with a second sealed file of a segment, which a crash during a
// repair leaves: the damaged original.
func (j *Journal) twin(f found, s *Segment) error {
	path := j.path(f.file)
	if path == s.path {
		return nil // the repaired one, made just now under the same name
	}
	file, err := j.fs.Open(path)
	if err != nil {
		return j.advise("open "+path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return j.advise("read "+path, err)
	}
	_, err = pack.ReadIndex(file, f.name, info.Size())
	if err == nil {
		err = pack.CheckHeader(file, f.name)
	}
	switch {
	case err == nil:
		return fmt.Errorf("journal: %s and %s are the same segment: move one of them away, start, and import its blocks with ipfs dag import", path, s.path)
	case errors.Is(err, pack.ErrCorrupt):
		return j.discard(path, true)
	}
	return j.advise("read "+path, err)
}

// recoverSegment judges one file, and seals it if it is not sealed.
func (j *Journal) recoverSegment(s *Segment, f found, rec *Recovery) (keep bool, err error) {
	info, err := s.file.Stat()
	if err != nil {
		return false, j.advise("read "+s.path, err)
	}
	size := info.Size()
	var indexDamage error
	if f.sealed {
		entries, err := pack.ReadIndex(s.file, f.name, size)
		if err == nil {
			err = pack.CheckHeader(s.file, f.name)
		}
		if err == nil {
			s.sealed = pack.Sealed{Name: f.name, Size: size, Blocks: len(entries)}
			s.end, s.cost, s.blocks = f.name.IndexOffset, size, len(entries)
			return true, nil
		}
		if !errors.Is(err, pack.ErrCorrupt) {
			return false, j.advise("read "+s.path, err)
		}
		indexDamage = err
	}
	end := size
	if f.sealed {
		end = min(size, f.name.IndexOffset)
	}
	good, damaged, cut, err := scan(s.file, end)
	if err != nil {
		return false, j.advise("read "+s.path, err)
	}
	for i := range damaged {
		damaged[i].File = s.path
	}
	if cut != nil {
		cut.File = s.path
		if f.sealed { // nothing was being written
			damaged = append(damaged, *cut)
			cut = nil
		}
	}
	if indexDamage != nil {
		damaged = append(damaged, Finding{File: s.path, Offset: f.name.IndexOffset, Bytes: max(size-f.name.IndexOffset, 0), Reason: indexDamage.Error()})
	}
	if cut != nil {
		rec.Cut = append(rec.Cut, *cut)
	}
	rec.Damaged = append(rec.Damaged, damaged...)
	if len(good) == 0 {
		return false, j.discard(s.path, len(damaged) > 0)
	}
	return true, j.reseal(s, f, good, len(damaged) > 0)
}

// reseal makes a sealed segment of the good sections of a file.
func (j *Journal) reseal(s *Segment, f found, good []extent, damaged bool) error {
	err := walk(s.file, good[0].from, good[0].end, func(int64, pack.Header) error { s.blocks++; return nil })
	if err != nil {
		return j.advise("read "+s.path, err)
	}
	c, err := j.copySections(s.file, s.id, s.writer, good)
	if err != nil {
		if damaged {
			return fmt.Errorf("repair %s: %w", s.path, err)
		}
		// All of it is one run, at the offsets that it will keep. It is synced
		// here because what a dead process wrote may be in memory only.
		if syncErr := s.file.Sync(); syncErr != nil {
			return errors.Join(err, j.advise("sync "+s.path, syncErr))
		}
		s.end = good[0].end
		s.cost = s.end
		s.failed, j.sealErr = err, err
		return nil
	}
	if c.path != s.path {
		if err := j.discard(s.path, damaged); err != nil {
			return errors.Join(err, c.file.Close())
		}
	}
	s.replace(c.file, c.path)
	s.sealed, s.end = c.sealed, c.sealed.Name.IndexOffset
	s.cost, s.blocks = c.sealed.Size, c.sealed.Blocks
	return nil
}

// discard takes a file out of the journal; one with damage is kept to look at.
func (j *Journal) discard(path string, damaged bool) error {
	if !damaged {
		if err := j.fs.Remove(path); err != nil {
			return j.advise("remove "+path, err)
		}
		return nil
	}
	if err := j.fs.Rename(path, path+extDamaged); err != nil {
		return j.advise("rename "+path, err)
	}
	return nil
}
