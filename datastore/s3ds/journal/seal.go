package journal

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// seal completes one segment, where it is or in a copy.
func (j *Journal) seal(s *Segment) error {
	j.mu.Lock()
	failed := s.failed
	j.mu.Unlock()
	if failed == nil {
		err := j.sealInPlace(s)
		if err == nil {
			return nil
		}
		j.mu.Lock()
		s.failed, s.w = err, nil
		j.mu.Unlock()
	}
	return j.sealCopy(s)
}

func (j *Journal) sealInPlace(s *Segment) error {
	sealed, err := s.w.Seal(s.id, s.writer)
	if err != nil {
		return j.advise("seal "+s.path, err)
	}
	if err := s.file.Sync(); err != nil {
		return j.advise("sync "+s.path, err)
	}
	path := j.path(sealed.Name.String())
	if err := j.fs.Rename(s.path, path); err != nil {
		return j.advise("rename "+s.path, err)
	}
	s.mu.Lock()
	s.path = path
	s.mu.Unlock()
	if err := j.syncDir(); err != nil {
		return j.advise("sync folder of "+path, err)
	}
	s.w = nil
	j.sealedAs(s, sealed)
	return nil
}

func (j *Journal) sealCopy(s *Segment) error {
	from := s.location()
	c, err := j.copySections(s.file, s.id, s.writer, []extent{{pack.FirstSection, s.durableEnd()}})
	if err != nil {
		return s.named(err)
	}
	// The old name must be gone for good before the segment is handed out:
	// once its pack is in the bucket, nothing of it may come back under
	// another name.
	if from != c.path {
		if err := j.fs.Remove(from); err != nil {
			return errors.Join(j.advise("remove "+from, err), c.file.Close())
		}
		s.mu.Lock()
		s.path = c.path
		s.mu.Unlock()
	}
	if err := j.syncDir(); err != nil {
		return errors.Join(j.advise("sync folder of "+c.path, err), c.file.Close())
	}
	s.replace(c.file, c.path)
	j.sealedAs(s, c.sealed)
	return nil
}

func (j *Journal) sealedAs(s *Segment, sealed pack.Sealed) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s.sealed, s.failed = sealed, nil
}

// sealLoop seals what the committer has finished, and tries again what failed.
func (j *Journal) sealLoop() {
	defer close(j.sealerEnd)
	pause := time.Duration(0)
	for {
		committed := false
		select {
		case <-j.committed:
			committed = true // so this pass is the last one
		default:
		}
		if j.sealAll() {
			pause = min(max(2*pause, time.Second), 30*time.Second)
		} else {
			pause = 0
		}
		if committed {
			return
		}
		var timer <-chan time.Time
		if pause > 0 {
			timer = time.After(pause)
		}
		select {
		case <-j.kickSeal:
		case <-timer:
		case <-j.committed:
		}
	}
}

// sealAll tries each finished segment once and tells whether any failed.
func (j *Journal) sealAll() (failed bool) {
	j.mu.Lock()
	j.sealBegun++
	todo := slices.Clone(j.finishing)
	j.mu.Unlock()
	var last error
	for _, s := range todo {
		err := j.seal(s)
		j.mu.Lock()
		if err != nil {
			last = fmt.Errorf("seal segment %s: %w", s.id, err)
			s.failed = last
		} else {
			j.finishing = slices.DeleteFunc(j.finishing, func(o *Segment) bool { return o == s })
			i, _ := slices.BinarySearchFunc(j.ready, s, byID)
			j.ready = slices.Insert(j.ready, i, s)
		}
		j.sealErr = last
		j.announce()
		j.mu.Unlock()
	}
	j.mu.Lock()
	j.sealEnded = j.sealBegun
	j.announce()
	j.mu.Unlock()
	j.wake() // sealing by age may have waited for this
	return last != nil
}
