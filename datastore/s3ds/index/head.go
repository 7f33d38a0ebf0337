package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Identity names the store that an index describes.
type Identity struct {
	Bucket string // with endpoint or region if the name alone is not unique
	Prefix string
	Writer string
}

func (id Identity) String() string {
	return fmt.Sprintf("bucket %q, prefix %q, writer %q", id.Bucket, id.Prefix, id.Writer)
}

// The file "head" says what the index is and how far it was committed, apart from Pebble's own files, so that it
// can be judged before these are touched, and so that their loss is noticed:
//
//	0     "s3dsidx" | version byte | three texts (uvarint length, bytes): bucket, prefix, writer | zeros | crc32c of the 4,092 bytes before
//	4096  slot 0: commit number, 8 bytes big endian | crc32c of these
//	4608  slot 1: likewise
//	5120  slot 2: the roster, see there
//	5632  slot 3: likewise
//
// Commits write their number into slots 0 and 1 in turn, and the roster goes into slots 2 and 3, in place: a torn write spoils one slot, the other one still has the
// number before. The slots are 512 bytes apart, so that no disk writes two with one sector.
const (
	headName    = "head"
	headMagic   = "s3dsidx"
	headVersion = 1
	headSize    = 4096
	slotStride  = 512
	slotSize    = 12
	headFile    = headSize + 4*slotStride
	maxIdentity = 1300 // bytes of each text: S3 allows 63 for a bucket, 1,024 for a key
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// head is the open file.
type head struct {
	file   vfs.File
	commit uint64 // the number written last
	keeper *keeper
}

func encodeHead(id Identity) ([]byte, error) {
	b := append(make([]byte, 0, headFile), headMagic...)
	b = append(b, headVersion)
	for _, text := range []string{id.Bucket, id.Prefix, id.Writer} {
		if len(text) > maxIdentity {
			return nil, fmt.Errorf("identity of the index: %q… has %d bytes, at most %d are possible", text[:32], len(text), maxIdentity)
		}
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	b = append(b, make([]byte, headSize-4-len(b))...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	for _, slot := range [][]byte{encodeSlot(0), encodeSlot(0), encodeRoster(0, roster{}), encodeRoster(0, roster{})} {
		b = append(append(b, slot...), make([]byte, slotStride-len(slot))...)
	}
	return b, nil
}

func encodeSlot(commit uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, slotSize), commit)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeHead returns whose index it is, the last commit known to be done, and the roster.
func decodeHead(b []byte) (id Identity, commit uint64, k *keeper, err error) {
	k = new(keeper)
	if len(b) < headFile || string(b[:len(headMagic)]) != headMagic {
		return id, 0, nil, fmt.Errorf("%w: its head is not one", ErrCorrupt)
	}
	if v := b[len(headMagic)]; v != headVersion {
		return id, 0, nil, fmt.Errorf("%w: %d, this version reads %d", ErrFormat, v, headVersion)
	}
	if binary.BigEndian.Uint32(b[headSize-4:]) != crc32.Checksum(b[:headSize-4], castagnoli) {
		return id, 0, nil, fmt.Errorf("%w: the checksum of its head is wrong", ErrCorrupt)
	}
	r := varints{b: b[len(headMagic)+1 : headSize-4]}
	id = Identity{Bucket: string(r.bytes(maxIdentity)), Prefix: string(r.bytes(maxIdentity)), Writer: string(r.bytes(maxIdentity))}
	if r.err != nil {
		return id, 0, nil, fmt.Errorf("%w: its head: %w", ErrCorrupt, r.err)
	}
	valid := false
	for i := range 2 {
		slot := b[headSize+i*slotStride:][:slotSize]
		if binary.BigEndian.Uint32(slot[8:]) == crc32.Checksum(slot[:8], castagnoli) {
			valid, commit = true, max(commit, binary.BigEndian.Uint64(slot))
		}
	}
	if !valid {
		return id, 0, nil, fmt.Errorf("%w: both commit records in its head are damaged", ErrCorrupt)
	}
	valid = false
	for i := range 2 {
		generation, r, ok := decodeRoster(b[headSize+(rosterAt+i)*slotStride:][:rosterSize])
		if ok && (!valid || generation > k.generation) {
			valid, k.generation, k.roster = true, generation, r
		}
	}
	if !valid {
		return id, 0, nil, fmt.Errorf("%w: both rosters in its head are damaged", ErrCorrupt)
	}
	return id, commit, k, nil
}

// openHead opens the head in dir, or makes one where there is none. fresh tells that no commit was ever recorded.
func openHead(fs vfs.FS, dir string, id Identity) (h *head, fresh bool, err error) {
	name := fs.PathJoin(dir, headName)
	if _, err := fs.Stat(name); errors.Is(err, os.ErrNotExist) {
		if names, err := fs.List(fs.PathJoin(dir, dbName)); err == nil && len(names) > 0 {
			return nil, false, fmt.Errorf("%w: the file %s is missing", ErrCorrupt, name)
		}
		if err := createHead(fs, dir, id); err != nil {
			return nil, false, err
		}
	} else if err != nil {
		return nil, false, err
	}
	f, err := fs.OpenReadWrite(name, diskCategory)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	b := make([]byte, headFile)
	if n, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, false, err
	} else if n < len(b) {
		return nil, false, fmt.Errorf("%w: the file %s is cut short", ErrCorrupt, name)
	}
	was, commit, k, err := decodeHead(b)
	if err != nil {
		return nil, false, err
	}
	if was != id {
		return nil, false, fmt.Errorf("%w: it describes %v; the settings say %v", ErrForeign, was, id)
	}
	k.file = f
	return &head{file: f, commit: commit, keeper: k}, commit == 0, nil
}

// createHead writes a head that names id and no commit, whole or not at all.
func createHead(fs vfs.FS, dir string, id Identity) error {
	b, err := encodeHead(id)
	if err != nil {
		return err
	}
	name := fs.PathJoin(dir, headName)
	f, err := fs.Create(name+".tmp", diskCategory)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(name+".tmp", name); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// record makes a commit number durable.
func (h *head) record(commit uint64) error {
	if _, err := h.file.WriteAt(encodeSlot(commit), headSize+int64(commit%2)*slotStride); err != nil {
		return err
	}
	if err := h.file.SyncData(); err != nil {
		return err
	}
	h.commit = commit
	return nil
}
