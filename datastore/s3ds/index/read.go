package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"
)

// Keys in Pebble: one byte for the sort of record, then its name.
const (
	damageTag = 'd' // key → nothing: the block is damaged or lost where its entry points to
	entryTag  = 'e' // key → Location
	liveTag   = 'l' // pack id, 8 bytes big endian → live count
	metaTag   = 'm' // totals, commit number, note
	packTag   = 'p' // pack id, 8 bytes big endian → Pack without its live count
)

var (
	totalsKey = []byte{metaTag, 't'}
	commitKey = []byte{metaTag, 'c'}
	noteKey   = []byte{metaTag, 'n'}
)

func entryKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), entryTag), key...)
}

func damageKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), damageTag), key...)
}

func idKey(tag byte, id PackID) []byte { return binary.BigEndian.AppendUint64([]byte{tag}, uint64(id)) }

func checkKey(key []byte) error {
	if len(key) == 0 || len(key) > MaxKey {
		return fmt.Errorf("key of %d bytes: 1 to %d are possible", len(key), MaxKey)
	}
	return nil
}

// load reads what is kept in memory, and checks that the tables are the ones that the head speaks of.
func (x *Index) load(fresh bool) error {
	if fresh {
		b := x.db.NewBatch()
		if err := errors.Join(
			b.Set(totalsKey, appendTotals(nil, totals{nextPack: 1}), nil),
			b.Set(commitKey, binary.AppendUvarint(nil, 1), nil),
			b.Commit(pebble.Sync),
		); err != nil {
			return classify("write the first records", err)
		}
		if err := x.head.record(1); err != nil {
			return classify("write the head", err)
		}
	}
	t, err := loadOne(x.db, totalsKey, decodeTotals)
	if err != nil {
		return err
	}
	commit, err := loadOne(x.db, commitKey, func(b []byte) (uint64, error) {
		r := varints{b: b}
		return r.uint64(), r.end()
	})
	if err != nil {
		return err
	}
	if commit < x.head.commit {
		return fmt.Errorf("%w: its last commit is %d, its head says %d: a part of its log is lost", ErrCorrupt, commit, x.head.commit)
	}
	x.totals, x.head.commit = t, commit
	if x.noted, x.hasNote, err = loadNote(x.db); err != nil {
		return err
	}
	err = x.scan(packTag, func(key, value []byte) error {
		p, err := decodePack(PackID(binary.BigEndian.Uint64(key)), value)
		if err != nil {
			return err
		}
		if p.ID >= t.nextPack {
			return fmt.Errorf("pack %d is newer than the totals", p.ID)
		}
		if at, ok := x.searchName(p.Name); ok {
			return fmt.Errorf("packs %d and %d have one name, %q", x.byName[at], p.ID, p.Name)
		}
		x.remember(p)
		return nil
	})
	if err != nil {
		return err
	}
	for _, err := range x.Damaged() {
		if err != nil {
			return err
		}
		x.damages++
	}
	return x.scan(liveTag, func(key, value []byte) error {
		id, r := PackID(binary.BigEndian.Uint64(key)), varints{b: value}
		c := r.count()
		if err := r.end(); err != nil {
			return fmt.Errorf("live count of pack %d: %w", id, err)
		}
		p, ok := x.packs[id]
		if !ok || c.blocks > p.Blocks || c.bytes > p.Bytes {
			return fmt.Errorf("live count of pack %d does not fit its record", id)
		}
		p.LiveBlocks, p.LiveBytes = c.blocks, c.bytes
		return nil
	})
}

func loadOne[T any](db *pebble.DB, key []byte, decode func([]byte) (T, error)) (v T, err error) {
	b, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return v, fmt.Errorf("%w: record %q is missing", ErrCorrupt, key)
	} else if err != nil {
		return v, classify(fmt.Sprintf("read record %q", key), err)
	}
	v, err = decode(b)
	if err := errors.Join(err, closer.Close()); err != nil {
		return v, corrupt(fmt.Sprintf("read record %q", key), err)
	}
	return v, nil
}

// scan calls fn with the name behind the tag, 8 bytes of it, and the value of each record of that sort.
func (x *Index) scan(tag byte, fn func(key, value []byte) error) error {
	doing := fmt.Sprintf("read records %q", tag)
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tag}, UpperBound: []byte{tag + 1}})
	if err != nil {
		return classify(doing, err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if len(it.Key()) != 9 {
			return errors.Join(corrupt(doing, fmt.Errorf("name of %d bytes", len(it.Key()))), it.Close())
		}
		if err := fn(it.Key()[1:], it.Value()); err != nil {
			return errors.Join(corrupt(doing, err), it.Close())
		}
	}
	return classify(doing, errors.Join(it.Error(), it.Close()))
}

// Get returns where the block of a key is, or ErrNotFound. It sees every update that returned before.
func (x *Index) Get(key []byte) (Location, error) {
	if err := x.enter(); err != nil {
		return Location{}, err
	}
	defer x.leave()
	l, ok, err := x.lookup(key)
	if err == nil && !ok {
		return Location{}, ErrNotFound
	}
	return l, err
}

// Has reports whether the index has an entry for the key.
func (x *Index) Has(key []byte) (bool, error) {
	if err := x.enter(); err != nil {
		return false, err
	}
	defer x.leave()
	_, ok, err := x.lookup(key)
	return ok, err
}

func (x *Index) lookup(key []byte) (Location, bool, error) {
	if err := checkKey(key); err != nil {
		return Location{}, false, err
	}
	v, closer, err := x.db.Get(entryKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return Location{}, false, nil
	} else if err != nil {
		return Location{}, false, x.readError(fmt.Sprintf("look up %x", key), err)
	}
	l, err := decodeLocation(v)
	if err := errors.Join(err, closer.Close()); err != nil {
		return Location{}, false, x.readError(fmt.Sprintf("look up %x", key), corrupt("decode", err))
	}
	return l, true, nil
}

// readError classifies an error of a read, and remembers it if it is corruption.
func (x *Index) readError(doing string, err error) error {
	if err = classify(doing, err); errors.Is(err, ErrCorrupt) {
		x.damaged(err)
	}
	return err
}

// Entries yields the entries whose keys begin with prefix, in the byte order of the keys (which is not the order of their base32
// texts), as they were when the iteration began: updates made meanwhile are not seen. It holds on to that state: a slow
// reader keeps files on disk that compaction has replaced. An error is yielded once, and ends it. Keys are the caller's to keep.
func (x *Index) Entries(prefix []byte) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := x.enter(); err != nil {
			yield(Entry{}, err)
			return
		}
		defer x.leave()
		low := entryKey(prefix)
		it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: successor(low)})
		if err != nil {
			yield(Entry{}, x.readError("list the index", err))
			return
		}
		for ok := it.First(); ok; ok = it.Next() {
			if x.isClosing() {
				_ = it.Close()
				yield(Entry{}, ErrClosed)
				return
			}
			e := Entry{Key: append([]byte(nil), it.Key()[1:]...)}
			if e.Location, err = decodeLocation(it.Value()); err != nil {
				_ = it.Close()
				yield(Entry{}, x.readError(fmt.Sprintf("list the index at %x", e.Key), corrupt("decode", err)))
				return
			}
			if !yield(e, nil) {
				_ = it.Close()
				return
			}
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			yield(Entry{}, x.readError("list the index", err))
		}
	}
}

// Damaged yields the keys of the blocks that NoteDamage has noted. See Entries.
func (x *Index) Damaged() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err := x.enter(); err != nil {
			yield(nil, err)
			return
		}
		defer x.leave()
		it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{damageTag}, UpperBound: []byte{damageTag + 1}})
		if err != nil {
			yield(nil, x.readError("list damaged blocks", err))
			return
		}
		for ok := it.First(); ok && !x.isClosing(); ok = it.Next() {
			if !yield(append([]byte(nil), it.Key()[1:]...), nil) {
				_ = it.Close()
				return
			}
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			yield(nil, x.readError("list damaged blocks", err))
		}
	}
}

// IsDamaged reports whether a block is noted as damaged or lost. While none is, it reads memory only.
func (x *Index) IsDamaged(key []byte) (bool, error) {
	x.mu.RLock()
	n := x.damages
	x.mu.RUnlock()
	if n == 0 {
		return false, nil
	}
	if err := x.enter(); err != nil {
		return false, err
	}
	defer x.leave()
	return x.isDamaged(key)
}

func (x *Index) isDamaged(key []byte) (bool, error) {
	_, closer, err := x.db.Get(damageKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, x.readError(fmt.Sprintf("look up the damage of %x", key), err)
	}
	return true, closer.Close()
}

// successor returns the smallest key behind all that begin with b, which begins with a tag and so has one.
func successor(b []byte) []byte {
	s := append([]byte(nil), b...)
	for i := len(s) - 1; i >= 0; i-- {
		if s[i]++; s[i] != 0 {
			return s[:i+1]
		}
	}
	return nil
}
