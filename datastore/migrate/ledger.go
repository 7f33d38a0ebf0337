package migrate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	mh "github.com/multiformats/go-multihash"
)

// ledger is what is known about each block, on disk. A line takes some 60 bytes there. Safe for concurrent use.
//
// Ticks number the lists that were made: a line that has the tick of a list was in it. So a list need not be removed before
// the next one is made.
type ledger struct {
	db   *pebble.DB
	tick uint32 // of the latest list

	mu sync.Mutex // held from reading a line to writing it
}

// line is what is known of one block.
type line struct {
	source uint32 // tick of the latest list of the source that it was in; 0: none
	target uint32 // of the target, or when it was put
	flags  byte
	size   int64
}

const (
	// ours: this migration is about to put it, or has.
	ours = 1 << iota
	// walked: everything below it was taken, or was about to be. A hint.
	walked
	// damaged: it was, when it was last read.
	damaged
	// verified: it was in the target, not by us, and is good.
	verified
)

// settled reports whether a block that the target lists needs no look at it.
func (e line) settled() bool { return e.flags&(ours|verified) != 0 }

// Sizes of the ledger's memory, in bytes: lines of 10 million blocks are 600 MB, which are read in no order, so a larger cache
// would not help.
const (
	ledgerCache    = 8 << 20
	ledgerMemtable = 4 << 20
)

var tickKey = []byte("tick")

func blockKey(h mh.Multihash) []byte { return append([]byte{'b'}, h...) }

func openLedger(dir string) (*ledger, error) {
	db, err := pebble.Open(dir, &pebble.Options{
		CacheSize: ledgerCache, MemTableSize: ledgerMemtable, Logger: quiet{}, FormatMajorVersion: pebble.FormatNewest,
	})
	if err != nil {
		return nil, fmt.Errorf("open the ledger in %s: %w", dir, err)
	}
	l := &ledger{db: db}
	v, closer, err := db.Get(tickKey)
	switch {
	case err == nil && len(v) == 4:
		l.tick = binary.BigEndian.Uint32(v)
		err = closer.Close()
	case errors.Is(err, pebble.ErrNotFound):
		err = nil
	case err == nil:
		err = errors.Join(fmt.Errorf("its tick has %d bytes", len(v)), closer.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the ledger in %s: %w", dir, err), db.Close())
	}
	return l, nil
}

// quiet keeps Pebble from the log: what goes wrong comes back as an error.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("the ledger of a migration: "+format, args...))
}

func (l *ledger) close() error { return l.db.Close() }

// next begins a list.
func (l *ledger) next() (uint32, error) {
	l.tick++
	if err := l.db.Set(tickKey, binary.BigEndian.AppendUint32(nil, l.tick), pebble.NoSync); err != nil {
		return 0, fmt.Errorf("ledger: %w", err)
	}
	return l.tick, nil
}

func (e line) encode() []byte {
	b := binary.BigEndian.AppendUint32(nil, e.source)
	b = binary.BigEndian.AppendUint32(b, e.target)
	b = append(b, e.flags)
	return binary.AppendUvarint(b, uint64(e.size))
}

func decodeLine(b []byte) (line, error) {
	if len(b) < 10 {
		return line{}, fmt.Errorf("ledger: a line of %d bytes: remove the ledger, and what is in the target will be read anew", len(b))
	}
	size, n := binary.Uvarint(b[9:])
	if n != len(b)-9 {
		return line{}, fmt.Errorf("ledger: a line ends wrongly: remove the ledger, and what is in the target will be read anew")
	}
	return line{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), b[8], int64(size)}, nil
}

// get returns the line of a block, and whether there is one.
func (l *ledger) get(h mh.Multihash) (line, bool, error) {
	v, closer, err := l.db.Get(blockKey(h))
	if errors.Is(err, pebble.ErrNotFound) {
		return line{}, false, nil
	} else if err != nil {
		return line{}, false, fmt.Errorf("ledger: %w", err)
	}
	e, err := decodeLine(v)
	return e, err == nil, errors.Join(err, closer.Close())
}

// edit changes lines, in one write that is durable if sync says so. Lines that are not there are made, unless change returns false
// for them.
func (l *ledger) edit(sync bool, hashes []mh.Multihash, change func(i int, e *line, had bool) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.db.NewBatch()
	for i, h := range hashes {
		e, had, err := l.get(h)
		if err != nil {
			return errors.Join(err, b.Close())
		}
		if !change(i, &e, had) {
			continue
		}
		if err := b.Set(blockKey(h), e.encode(), nil); err != nil {
			return errors.Join(fmt.Errorf("ledger: %w", err), b.Close())
		}
	}
	how := pebble.NoSync
	if sync {
		how = pebble.Sync
	}
	if err := b.Commit(how); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// forget removes lines.
func (l *ledger) forget(hashes []mh.Multihash) error {
	b := l.db.NewBatch()
	for _, h := range hashes {
		if err := b.Delete(blockKey(h), nil); err != nil {
			return errors.Join(fmt.Errorf("ledger: %w", err), b.Close())
		}
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// each calls do with every line, as they were when it began. What do is given is good until it returns.
func (l *ledger) each(do func(h mh.Multihash, e line) error) (err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{'b'}, UpperBound: []byte{'b' + 1}})
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		e, err := decodeLine(it.Value())
		if err != nil {
			return err
		}
		if err := do(mh.Multihash(it.Key()[1:]), e); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// chunk is how many lines are changed at once while something is listed.
const chunk = 1024

// chunks gathers hashes, and hands them on when there are enough.
type chunks struct {
	hashes []mh.Multihash
	sizes  []int64
	full   func(hashes []mh.Multihash, sizes []int64) error
}

func (c *chunks) add(h mh.Multihash, size int64) error {
	c.hashes, c.sizes = append(c.hashes, bytes.Clone(h)), append(c.sizes, size)
	if len(c.hashes) < chunk {
		return nil
	}
	return c.flush()
}

func (c *chunks) flush() error {
	if len(c.hashes) == 0 {
		return nil
	}
	err := c.full(c.hashes, c.sizes)
	c.hashes, c.sizes = c.hashes[:0], c.sizes[:0]
	return err
}
