package cars

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	mh "github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/datastore/migrate"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

const (
	// writer stands in the names of the packs that are written.
	writer = "backup"
	// partName is the pack that is being written.
	partName = "backup.part"
	lockName = "LOCK"
	// DefaultPackSize is that of the packs in a bucket.
	DefaultPackSize = 32 << 20
)

// Options say how a folder is used. Zero values are defaults.
type Options struct {
	PackSize int64 // bytes after which a pack is ended without a Sync
	// Damaged is called for a file, or the rest of one, that cannot be read, which is then passed over. nil: it is an error.
	Damaged func(*DamageError)
}

// DamageError says that a file is not a CAR, from a byte on.
type DamageError struct {
	File   string
	Offset int64
	Err    error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %v", e.File, e.Offset, e.Err)
}

func (e *DamageError) Unwrap() error { return e.Err }

// Folder is a folder of CARs.
type Folder struct {
	dir  string
	o    Options
	lock io.Closer // nil if it is only read

	mu    sync.RWMutex
	names []string // of files
	table []place  // by mark, then file and offset

	write sync.Mutex // of what follows
	ids   *pack.IDs
	part  *os.File // nil if no pack is being written
	out   *pack.Writer
}

var _ migrate.Target = (*Folder)(nil)

// place is where a section is.
type place struct {
	mark uint64 // the last bytes of the multihash
	at   uint64 // number of the file, and the offset in it
}

// offsetBits is for offsets up to 1 TiB, in one of 16 million files.
const offsetBits = 40

func (p place) file() int     { return int(p.at >> offsetBits) }
func (p place) offset() int64 { return int64(p.at & (1<<offsetBits - 1)) }

func markOf(h mh.Multihash) uint64 {
	var b [8]byte
	copy(b[:], h[max(0, len(h)-8):])
	return binary.LittleEndian.Uint64(b[:])
}

// Open opens a folder to be read.
func Open(dir string, o Options) (*Folder, error) {
	fi, err := os.Stat(dir)
	switch {
	case err != nil:
		return nil, fmt.Errorf("folder of CAR files: %w", err)
	case !fi.IsDir():
		return nil, fmt.Errorf("folder of CAR files: %s is a file: name the folder that it is in", dir)
	}
	f := &Folder{dir: dir, o: o}
	if err := f.scan(context.Background()); err != nil {
		return nil, err
	}
	if len(f.names) == 0 {
		return nil, fmt.Errorf("folder of CAR files: there is no file *.car in %s", dir)
	}
	return f, nil
}

// Create opens a folder to be written, and makes it if it is not there.
func Create(dir string, o Options) (_ *Folder, err error) {
	if o.PackSize == 0 {
		o.PackSize = DefaultPackSize
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of CAR files: %w", err)
	}
	lock, err := vfs.Default.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("folder of CAR files: lock %s: %w: another process writes there, stop it first", dir, err)
	}
	f := &Folder{dir: dir, o: o, lock: lock, ids: pack.NewIDs(0)}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	if err := os.Remove(filepath.Join(dir, partName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("folder of CAR files: remove what was not finished: %w", err)
	}
	if err := f.scan(context.Background()); err != nil {
		return nil, err
	}
	for _, name := range f.names {
		if n, err := pack.ParseName(name); err == nil {
			f.ids.See(n.ID)
		}
	}
	return f, nil
}

// Close lets go of the folder. A pack that was not synced is lost.
func (f *Folder) Close() error {
	f.write.Lock()
	defer f.write.Unlock()
	var errs []error
	if f.part != nil {
		errs = append(errs, f.part.Close(), os.Remove(f.part.Name()))
		f.part = nil
	}
	if f.lock != nil {
		errs = append(errs, f.lock.Close())
		f.lock = nil
	}
	return errors.Join(errs...)
}

// Bytes is the size of all CARs.
func (f *Folder) Bytes() (sum int64, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, name := range f.names {
		fi, err := os.Stat(filepath.Join(f.dir, name))
		if err != nil {
			return 0, err
		}
		sum += fi.Size()
	}
	return sum, nil
}

// scan reads where everything is.
func (f *Folder) scan(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(globEscape(f.dir), "*.car"))
	if err != nil {
		return fmt.Errorf("list %s: %w", f.dir, err)
	}
	slices.Sort(files)
	var names []string
	var table []place
	for i, path := range files {
		names = append(names, filepath.Base(path))
		err := sectionsOf(ctx, path, func(s section) error {
			if s.offset >= 1<<offsetBits {
				return fmt.Errorf("%s is larger than 1 TiB: cut it into smaller ones", path)
			}
			table = append(table, place{markOf(s.hash), uint64(i)<<offsetBits | uint64(s.offset)})
			return nil
		})
		if err := f.passable(err); err != nil {
			return err
		}
	}
	slices.SortFunc(table, func(a, b place) int { return cmp.Or(cmp.Compare(a.mark, b.mark), cmp.Compare(a.at, b.at)) })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names, f.table = names, table
	return nil
}

func globEscape(dir string) string {
	var b bytes.Buffer
	for _, c := range dir {
		if slices.Contains([]rune(`*?[\`), c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// passable drops the error of a damaged file, if the rest of it is to be passed over.
func (f *Folder) passable(err error) error {
	var damage *DamageError
	if !errors.As(err, &damage) {
		return err
	}
	if f.o.Damaged == nil {
		return err
	}
	f.o.Damaged(damage)
	return nil
}

// Blocks implements migrate.Source: in the order of the names of the files, and as they stand there. It sees what was written since the
// folder was opened.
func (f *Folder) Blocks(ctx context.Context) iter.Seq2[migrate.Listed, error] {
	return func(yield func(migrate.Listed, error) bool) {
		if err := f.scan(ctx); err != nil {
			yield(migrate.Listed{}, err)
			return
		}
		f.mu.RLock()
		names, table := f.names, f.table
		f.mu.RUnlock()
		for i, name := range names {
			stopped := false
			err := sectionsOf(ctx, filepath.Join(f.dir, name), func(s section) error {
				if n, same := marked(table, s.hash); same != 1 {
					first, err := f.find(names, table[n:n+same], s.hash)
					if err != nil {
						return err
					}
					if first == nil || first.file != i || first.offset != s.offset {
						return nil // it was yielded before, or will be
					}
				}
				if !yield(migrate.Listed{Hash: s.hash, Size: s.size}, nil) {
					stopped = true
					return errStop
				}
				return nil
			})
			if stopped {
				return
			}
			var damage *DamageError
			if errors.As(err, &damage) && f.o.Damaged != nil {
				err = nil // scan has told
			}
			if err != nil {
				yield(migrate.Listed{}, err)
				return
			}
		}
	}
}

var errStop = errors.New("stop")

// found is a section, and the file that it is in.
type found struct {
	section
	file int
}

// marked returns where in a table the places of a block are, if there are any: those of blocks whose hash ends in the same way.
func marked(table []place, h mh.Multihash) (first, count int) {
	mark := markOf(h)
	first, _ = slices.BinarySearchFunc(table, mark, func(p place, m uint64) int { return cmp.Compare(p.mark, m) })
	for first+count < len(table) && table[first+count].mark == mark {
		count++
	}
	return first, count
}

// find returns the first section of a block among places, nil if there is none.
func (f *Folder) find(names []string, places []place, h mh.Multihash) (*found, error) {
	for _, p := range places {
		s, err := sectionAt(filepath.Join(f.dir, names[p.file()]), p.offset())
		if err != nil {
			return nil, err
		}
		if bytes.Equal(s.hash, h) {
			return &found{s, p.file()}, nil
		}
	}
	return nil, nil
}

// Get implements migrate.Source. The bytes are not verified.
func (f *Folder) Get(_ context.Context, h mh.Multihash) ([]byte, error) {
	f.mu.RLock()
	names, table := f.names, f.table
	f.mu.RUnlock()
	n, same := marked(table, h)
	s, err := f.find(names, table[n:n+same], h)
	var damage *DamageError
	switch {
	case errors.As(err, &damage):
		return nil, fmt.Errorf("%w: %w", migrate.ErrDamaged, err)
	case err != nil:
		return nil, err
	case s == nil:
		return nil, migrate.ErrNotFound
	}
	path := filepath.Join(f.dir, names[s.file])
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data := make([]byte, s.size)
	if _, err := file.ReadAt(data, s.data); err != nil {
		return nil, fmt.Errorf("%w: %w", migrate.ErrDamaged, &DamageError{path, s.data, err})
	}
	return data, nil
}

// Put implements migrate.Target. Blocks are durable when Sync has returned, or when a pack is full.
func (f *Folder) Put(_ context.Context, blocks []migrate.Block) error {
	f.write.Lock()
	defer f.write.Unlock()
	if f.lock == nil {
		return errors.New("the folder of CAR files is not open for writing")
	}
	for _, b := range blocks {
		if f.part == nil {
			part, err := os.OpenFile(filepath.Join(f.dir, partName), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
			if err != nil {
				return fmt.Errorf("begin a pack: %w", err)
			}
			f.part, f.out = part, pack.NewWriter(part)
		}
		if _, err := f.out.Append(pack.Block{Multihash: b.Hash, Data: b.Data}); err != nil {
			return fmt.Errorf("write block %s to %s: %w", b.Hash.HexString(), f.part.Name(), err)
		}
		if f.out.Size() >= f.o.PackSize {
			if err := f.seal(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Sync implements migrate.Target: it ends the pack that is being written.
func (f *Folder) Sync(context.Context) error {
	f.write.Lock()
	defer f.write.Unlock()
	return f.seal()
}

func (f *Folder) seal() (err error) {
	if f.part == nil {
		return nil
	}
	part := f.part
	defer func() {
		if err != nil {
			err = fmt.Errorf("end the pack in %s: %w", part.Name(), err)
		}
	}()
	sealed, err := f.out.Seal(f.ids.Next(), writer)
	if err == nil {
		err = part.Sync()
	}
	if err := errors.Join(err, part.Close()); err != nil {
		f.part = nil
		return errors.Join(err, os.Remove(part.Name()))
	}
	f.part = nil
	if err := os.Rename(part.Name(), filepath.Join(f.dir, sealed.Name.String())); err != nil {
		return err
	}
	return syncDir(f.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Delete implements migrate.Target by doing nothing: what was deleted from the source since it was copied stays in a backup.
func (f *Folder) Delete(context.Context, []mh.Multihash) error { return nil }
