package touched

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Time is nanoseconds of the boot clock.
type Time int64

// Add is the time d later, or earlier if d is negative.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub is how much later t is than u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Digest stands for a multihash.
type Digest uint64

// Key is the digest of a multihash: FNV-1a. Whoever makes two blocks with one digest makes garbage that stays longer.
func Key(hash []byte) Digest {
	h := uint64(14695981039346656037)
	for _, b := range hash {
		h = (h ^ uint64(b)) * 1099511628211
	}
	if h == stamp {
		h--
	}
	return Digest(h)
}

// stamp is followed by a time: what stands before it was touched until then.
const stamp = ^uint64(0)

// stampEvery is how exact the times in a file are: 16 bytes for it at most, which is nothing next to the touches of that time.
const stampEvery = 10 * time.Millisecond

// Options of Open.
type Options struct {
	// Now is the boot clock, and Boot names the boot of this machine; both nil: those of the system. An empty name is
	// of a machine that does not say, whose history begins with each Open.
	Now  func() Time
	Boot func() string
	// Slice is how much time a file covers: how much longer than asked for a block may be kept.
	Slice time.Duration
	// Floor is the time before which touches are not needed any more. It is called while files change.
	Floor func() Time
}

const (
	magic      = "IPFSTCH1"
	headerSize = 64
	recordSize = 8
	suffix     = ".touched"
	headFile   = "head"
	// maxFile ends a file before its time, so that one Visit does not read a large one for a short slice:
	// 4 MiB are 524,288 touches.
	maxFile = 4 << 20
)

// Log is the history of one repo.
type Log struct {
	dir string
	o   Options
	// boot is hashed into the headers.
	boot uint64

	mu     sync.Mutex
	files  []file // oldest first; the last is the one that is written
	out    *os.File
	size   int64
	added  Time // of the last Add
	marked Time // when the last stamp was written
	since  Time
	buf    []byte
	closed bool
}

type file struct {
	number uint64
	start  Time
}

// Open opens the history in a folder, which it makes. What is there and cannot be relied on is removed.
func Open(dir string, o Options) (*Log, error) {
	if o.Now == nil {
		o.Now = bootClock
	}
	if o.Boot == nil {
		o.Boot = bootID
	}
	if o.Slice <= 0 {
		o.Slice = time.Minute
	}
	boot := o.Boot()
	l := &Log{dir: dir, o: o, boot: uint64(Key([]byte(boot)))}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("history of touched blocks: %w", err)
	}
	now := o.Now()
	found, ok, err := l.read(now)
	if err != nil {
		return nil, fmt.Errorf("history of touched blocks in %s: %w", dir, err)
	}
	if !ok || boot == "" {
		if err := l.discard(); err != nil {
			return nil, fmt.Errorf("history of touched blocks in %s: %w", dir, err)
		}
		found = nil
	}
	l.files, l.since = found, now
	if len(found) > 0 {
		l.since = found[0].start
	}
	resumed, err := l.resume(now)
	if err == nil && !resumed {
		err = l.begin(now)
	}
	if err != nil {
		return nil, fmt.Errorf("history of touched blocks in %s: %w", dir, err)
	}
	return l, nil
}

// resume goes on with the newest file while its time lasts: commands without a daemon would make one each.
func (l *Log) resume(now Time) (bool, error) {
	if len(l.files) == 0 || now.Sub(l.files[len(l.files)-1].start) >= l.o.Slice {
		return false, nil
	}
	out, err := os.OpenFile(l.path(l.files[len(l.files)-1].number), os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	fi, err := out.Stat()
	if err != nil || fi.Size() >= maxFile {
		return false, errors.Join(err, out.Close())
	}
	l.out, l.size, l.added = out, fi.Size()-(fi.Size()-headerSize)%recordSize, now // a torn record is written over
	var end [recordSize]byte
	if l.size == headerSize {
		return true, nil
	}
	if _, err := out.ReadAt(end[:], l.size-recordSize); err != nil {
		return false, errors.Join(err, out.Close())
	}
	if binary.LittleEndian.Uint64(end[:]) == stamp { // and so is one whose time is missing
		l.size -= recordSize
	}
	return true, nil
}

// read returns the files there are; not ok: they are no history of this boot.
func (l *Log) read(now Time) (found []file, ok bool, err error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, false, err
	}
	head, err := os.ReadFile(filepath.Join(l.dir, headFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	newest, err := strconv.ParseUint(strings.TrimSpace(string(head)), 16, 64)
	if err != nil {
		return nil, false, nil
	}
	for _, e := range entries {
		name, is := strings.CutSuffix(e.Name(), suffix)
		if !is {
			continue
		}
		n, err := strconv.ParseUint(name, 16, 64)
		if err != nil {
			return nil, false, nil
		}
		if n > newest {
			// Made, and not written to before head named it.
			if err := os.Remove(filepath.Join(l.dir, e.Name())); err != nil {
				return nil, false, err
			}
			continue
		}
		f, ok, err := l.header(n)
		if err != nil || !ok || f.start > now {
			return nil, false, err
		}
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b file) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	for i, f := range found {
		if i > 0 && (f.number != found[i-1].number+1 || f.start < found[i-1].start) {
			return nil, false, nil
		}
	}
	return found, len(found) > 0 && found[len(found)-1].number == newest, nil
}

func (l *Log) header(n uint64) (file, bool, error) {
	f, err := os.Open(l.path(n))
	if err != nil {
		return file{}, false, err
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, headerSize)
	if _, err := io.ReadFull(f, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return file{}, false, nil
		}
		return file{}, false, err
	}
	want := l.encode(file{n, Time(binary.LittleEndian.Uint64(b[24:]))})
	return file{n, Time(binary.LittleEndian.Uint64(b[24:]))}, string(want) == string(b), nil
}

func (l *Log) encode(f file) []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	binary.LittleEndian.PutUint64(b[8:], l.boot)
	binary.LittleEndian.PutUint64(b[16:], f.number)
	binary.LittleEndian.PutUint64(b[24:], uint64(f.start))
	binary.LittleEndian.PutUint32(b[headerSize-4:], crc32.ChecksumIEEE(b[:headerSize-4]))
	return b
}

func (l *Log) path(n uint64) string { return filepath.Join(l.dir, fmt.Sprintf("%016x", n)+suffix) }

// discard removes what is there, head first: without it there is no history.
func (l *Log) discard() error {
	if err := os.Remove(filepath.Join(l.dir, headFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(l.dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			err = errors.Join(err, os.Remove(filepath.Join(l.dir, e.Name())))
		}
	}
	return err
}

// begin starts the next file. Until head names it nothing is written to it.
func (l *Log) begin(now Time) error {
	next := file{1, now}
	if n := len(l.files); n > 0 {
		next = file{l.files[n-1].number + 1, max(now, l.files[n-1].start)}
	}
	out, err := os.OpenFile(l.path(next.number), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	temp := filepath.Join(l.dir, headFile+".tmp")
	_, err = out.Write(l.encode(next))
	if err == nil {
		err = os.WriteFile(temp, fmt.Appendf(nil, "%016x\n", next.number), 0o600)
	}
	if err == nil {
		err = os.Rename(temp, filepath.Join(l.dir, headFile))
	}
	if err != nil {
		return errors.Join(err, out.Close())
	}
	if l.out != nil {
		// How old the last touches are; a file without it keeps them for longer.
		if _, err := l.out.WriteAt(stampOf(nil, l.added), l.size); err != nil {
			return errors.Join(err, out.Close())
		}
		_ = l.out.Close() // what it holds was read back by no one, and is in the file
	}
	l.out, l.size, l.added, l.marked = out, headerSize, next.start, next.start
	l.files = append(l.files, next)
	return l.prune()
}

// prune removes files whose time is over.
func (l *Log) prune() error {
	if l.o.Floor == nil {
		return nil
	}
	floor := l.o.Floor()
	for len(l.files) > 1 && l.files[1].start < floor {
		if err := os.Remove(l.path(l.files[0].number)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		l.files = l.files[1:]
		l.since = max(l.since, l.files[0].start)
	}
	return nil
}

// Add notes that the blocks are touched now. It must return before they reach the store, and before the answer is relied on
// that they are there. If it fails the blocks must not be written.
func (l *Log) Add(keys ...Digest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errors.New("history of touched blocks: closed")
	}
	err := l.add(keys)
	if err == nil {
		return nil
	}
	// The history cannot be written. Without it everything counts as touched from now on, which the next file says. If
	// there cannot be one, it is enough that there is no history: the next Open begins one.
	if derr := l.discard(); derr != nil {
		return fmt.Errorf("note blocks as touched in %s: %w", l.dir, errors.Join(err, derr))
	}
	if l.out != nil {
		_ = l.out.Close()
	}
	l.out, l.files, l.since = nil, nil, l.o.Now()
	return nil
}

func (l *Log) add(keys []Digest) error {
	now := l.o.Now()
	if l.out == nil {
		l.since = now
		if err := l.begin(now); err != nil {
			return err
		}
	} else if now.Sub(l.files[len(l.files)-1].start) >= l.o.Slice || l.size >= maxFile {
		if err := l.begin(now); err != nil {
			return err
		}
	}
	l.buf = l.buf[:0]
	if now.Sub(l.marked) >= stampEvery {
		l.buf = stampOf(l.buf, l.added)
		l.marked = now
	}
	l.added = now
	for _, k := range keys {
		l.buf = binary.LittleEndian.AppendUint64(l.buf, uint64(k))
	}
	// At an offset: O_APPEND asks a network file system for the size each time.
	n, err := l.out.WriteAt(l.buf, l.size)
	if err != nil {
		return err
	}
	l.size += int64(n)
	return nil
}

// stampOf appends the time until which what stands before it was touched.
func stampOf(b []byte, t Time) []byte {
	b = binary.LittleEndian.AppendUint64(b, stamp)
	return binary.LittleEndian.AppendUint64(b, uint64(t))
}

// Cut lets a Visit from a later time on leave out what was touched until now, to the nanosecond. Without it what was touched within the
// same slice of time comes along.
func (l *Log) Cut() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.out == nil || l.size == headerSize {
		return nil
	}
	return l.begin(l.o.Now())
}

// Since is the time from which on the history is complete.
func (l *Log) Since() Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		return l.o.Now()
	}
	return l.since
}

// Now is the time by the clock of the history.
func (l *Log) Now() Time { return l.o.Now() }

// Visit calls fn for every touch at from or later that an Add has returned for before Visit was called, and for some older ones.
func (l *Log) Visit(from Time, fn func(Digest)) error {
	l.mu.Lock()
	files, since, broken := slices.Clone(l.files), l.since, l.out == nil
	sizeOfLast, added := l.size, l.added
	l.mu.Unlock()
	if broken || from < since {
		return fmt.Errorf("the history of touched blocks in %s does not reach back far enough", l.dir)
	}
	for i, f := range files {
		if i+1 < len(files) && files[i+1].start < from {
			continue
		}
		limit := int64(-1)
		if i == len(files)-1 {
			if limit = sizeOfLast; added < from {
				break
			}
		}
		if err := l.visit(f, limit, from, fn); err != nil {
			return fmt.Errorf("read the history of touched blocks: %w", err)
		}
	}
	return nil
}

func (l *Log) visit(f file, limit int64, from Time, fn func(Digest)) error {
	b, err := os.ReadFile(l.path(f.number))
	if err != nil {
		return err
	}
	if len(b) < headerSize || limit > int64(len(b)) {
		return fmt.Errorf("%s is shorter than what was written to it", l.path(f.number))
	}
	b = b[headerSize:]
	if limit >= 0 {
		b = b[:limit-headerSize]
	}
	var found []Digest
	for ; len(b) >= recordSize; b = b[recordSize:] {
		d := binary.LittleEndian.Uint64(b)
		if d != stamp {
			found = append(found, Digest(d))
			continue
		}
		if len(b) < 2*recordSize {
			break
		}
		b = b[recordSize:]
		if Time(binary.LittleEndian.Uint64(b)) < from {
			found = found[:0] // all of them are older
		}
	}
	for _, d := range found {
		fn(d)
	}
	return nil
}

// Close ends the writing; what is there stays.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.out == nil {
		return nil
	}
	return l.out.Close()
}
