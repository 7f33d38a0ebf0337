package efs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

const (
	// spareWriters is up to how many writers at work take spares. A rename from
	// one directory into another takes the lock of the whole mount for its round
	// trip, 2 ms: two writers, with 3.8 ms per block each, use that up.
	spareWriters = 2
	// spareDirs is over how many directories the spares are spread, in turn, so
	// that the next one can be created while this one is renamed.
	spareDirs = 2
	// spareFiles is how many are kept. One is created in the time that a lone
	// writer needs for a block; the others are for when that is late.
	spareFiles = 4
)

// spares are empty files made ahead of time, so that a lone writer, which has
// nobody to share the waiting with, need not wait for the creation.
type spares struct {
	fsys  vfs.FS
	dir   string
	ready chan vfs.File

	mu      sync.Mutex
	made    int // created so far
	filling bool
	stopped bool
	filled  sync.WaitGroup
}

// take returns a spare, or nil if none is ready, and sees to it that there will be one.
func (p *spares) take() vfs.File {
	var f vfs.File
	select {
	case f = <-p.ready:
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.filling && !p.stopped {
		p.filling = true
		p.filled.Go(p.fill)
	}
	return f
}

// fill creates spares until there are enough. An error ends it without a
// word: the writer finds no spare, creates its own file, and meets the error itself.
func (p *spares) fill() {
	for {
		p.mu.Lock()
		if p.stopped || len(p.ready) == cap(p.ready) {
			p.filling = false
			p.mu.Unlock()
			return
		}
		n := p.made
		p.made++
		p.mu.Unlock()
		f, err := p.create(n)
		if err != nil {
			p.mu.Lock()
			p.filling = false
			p.mu.Unlock()
			return
		}
		p.ready <- f // there is room: only fill puts in
	}
}

// create makes the n-th spare.
func (p *spares) create(n int) (vfs.File, error) {
	dir := p.spareDir(n)
	if n < spareDirs {
		if err := p.fsys.Mkdir(dir); err != nil {
			return nil, err
		}
	}
	return p.fsys.Create(filepath.Join(dir, newTempName()))
}

func (p *spares) spareDir(n int) string {
	return filepath.Join(p.dir, fmt.Sprintf("spares-%d", n%spareDirs))
}

// stop removes the spares; their directories are swept by the next Open. No take may be under way.
func (p *spares) stop(workers int) error {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.filled.Wait()
	var left []vfs.File
	for len(p.ready) > 0 {
		left = append(left, <-p.ready)
	}
	return each(workers, left, func(f vfs.File) error {
		err := f.Close()
		if rerr := p.fsys.Remove(f.Name()); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return explain("remove spare", err)
	})
}
