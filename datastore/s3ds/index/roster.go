package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"
)

// roster is what the disk is known to hold of Pebble's manifests and logs. Pebble takes a manifest that is damaged in the
// middle for one that ends there, and does not miss a log that is gone: tables and updates would be lost without a word. The
// roster never says more than what is there, so that if something in it is missing, the index is corrupt:
//
//   - a manifest is entered with its length after it was synced;
//   - a log is entered after it was made, and struck off before it is removed or used again.
//
// It is written when a memtable is flushed or tables are compacted, in the background, and when a log is begun, once for ~30,000 updates.
type roster struct {
	manifests [2]manifest // the newest one, the one before
	logs      []uint64
}

type manifest struct{ number, bytes uint64 }

const (
	rosterAt   = 2 // its two slots lie behind those of the commits
	maxLogs    = 32
	rosterSize = 8 + 4*8 + 8 + maxLogs*8 + 4
)

// encodeRoster makes the content of slot 2 or 3 of the head:
//
//	generation | newest manifest: number, bytes | manifest before: number, bytes | number of logs | 32 log numbers | crc32c
//
// all but the checksum 8 bytes big endian.
func encodeRoster(generation uint64, r roster) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, rosterSize), generation)
	for _, m := range r.manifests {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, m.number), m.bytes)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(len(r.logs)))
	for _, n := range r.logs {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = b[:rosterSize-4]
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeRoster(b []byte) (generation uint64, r roster, ok bool) {
	if len(b) != rosterSize || binary.BigEndian.Uint32(b[rosterSize-4:]) != crc32.Checksum(b[:rosterSize-4], castagnoli) {
		return 0, r, false
	}
	next := func() uint64 {
		v := binary.BigEndian.Uint64(b)
		b = b[8:]
		return v
	}
	generation = next()
	for i := range r.manifests {
		r.manifests[i] = manifest{next(), next()}
	}
	n := next()
	if n > maxLogs {
		return 0, r, false
	}
	for range n {
		r.logs = append(r.logs, next())
	}
	return generation, r, true
}

// numberOf returns the number in the name of a file of Pebble, if it has the prefix and suffix.
func numberOf(name, prefix, suffix string) (uint64, bool) {
	name, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	if name, ok = strings.CutSuffix(name, suffix); !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(name, 10, 64)
	return n, err == nil
}

// check compares the roster with the folder.
func (r roster) check(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return classify("list its files", err)
	}
	for _, n := range r.logs {
		if !slices.ContainsFunc(names, func(name string) bool { got, ok := numberOf(name, "", ".log"); return ok && got == n }) {
			return fmt.Errorf("%w: log %06d is missing", ErrCorrupt, n)
		}
	}
	name, err := atomicfs.ReadMarker(fs, dir, "manifest")
	if err != nil {
		return classifyOpen("find the manifest", err)
	}
	n, ok := numberOf(name, "MANIFEST-", "")
	if !ok {
		return fmt.Errorf("%w: its manifest is missing", ErrCorrupt)
	}
	var known uint64
	switch {
	case n == r.manifests[0].number:
		known = r.manifests[0].bytes
	case n == r.manifests[1].number:
		known = r.manifests[1].bytes
	case n < r.manifests[0].number:
		return fmt.Errorf("%w: %s is not the manifest in use", ErrCorrupt, name)
	}
	f, err := fs.Open(fs.PathJoin(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s is missing", ErrCorrupt, name)
	} else if err != nil {
		return err
	}
	defer f.Close()
	return checkManifest(name, f, known)
}

// checkManifest reads records until known bytes were read without a fault.
func checkManifest(name string, f io.Reader, known uint64) error {
	rr := record.NewReader(f, 0)
	sound := uint64(0)
	for sound < known {
		rec, err := rr.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, rec)
		}
		if err != nil {
			return fmt.Errorf("%w: %s is sound up to %d only, of the %d bytes that were written: %w", ErrCorrupt, name, sound, known, err)
		}
		sound = uint64(rr.Offset())
	}
	return nil
}

// keeper keeps the roster of an open index, and writes it into the head.
type keeper struct {
	mu         sync.Mutex
	file       vfs.File
	generation uint64
	roster     roster
}

// update changes the roster and makes it durable.
func (k *keeper) update(change func(*roster)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := k.roster
	next.logs = slices.Clone(next.logs)
	change(&next)
	if next.manifests == k.roster.manifests && slices.Equal(next.logs, k.roster.logs) {
		return nil
	}
	at := int64(headSize + (rosterAt+(k.generation+1)%2)*slotStride)
	if _, err := k.file.WriteAt(encodeRoster(k.generation+1, next), at); err != nil {
		return err
	}
	if err := k.file.SyncData(); err != nil {
		return err
	}
	k.generation++
	k.roster = next
	return nil
}

func (k *keeper) manifestSynced(m manifest) error {
	return k.update(func(r *roster) {
		if r.manifests[0].number != m.number {
			r.manifests[1] = r.manifests[0]
		}
		r.manifests[0] = m
	})
}

func (k *keeper) logMade(n uint64) error {
	return k.update(func(r *roster) {
		if !slices.Contains(r.logs, n) && len(r.logs) < maxLogs {
			r.logs = append(r.logs, n)
		}
	})
}

func (k *keeper) logGoes(n uint64) error {
	return k.update(func(r *roster) { r.logs = slices.DeleteFunc(r.logs, func(l uint64) bool { return l == n }) })
}

// rosterFS tells the keeper what happens to manifests and logs.
type rosterFS struct {
	vfs.FS
	keeper *keeper
}

func (fs rosterFS) made(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	base := fs.PathBase(name)
	if n, ok := numberOf(base, "MANIFEST-", ""); ok {
		return &manifestFile{File: f, keeper: fs.keeper, is: manifest{number: n}}, nil
	}
	if n, ok := numberOf(base, "", ".log"); ok {
		// The entry of the folder is what has to last: Pebble syncs it before it relies on the log, and so do we.
		err := syncDir(fs.FS, fs.PathDir(name))
		if err == nil {
			err = fs.keeper.logMade(n)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

func (fs rosterFS) goes(name string) error {
	if n, ok := numberOf(fs.PathBase(name), "", ".log"); ok {
		return fs.keeper.logGoes(n)
	}
	return nil
}

// Create enters logs and manifests.
func (fs rosterFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, c)
	return fs.made(name, f, err)
}

// ReuseForWrite strikes the old log off and enters the new one.
func (fs rosterFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := fs.goes(oldname); err != nil {
		return nil, err
	}
	f, err := fs.FS.ReuseForWrite(oldname, newname, c)
	return fs.made(newname, f, err)
}

// Remove strikes logs off.
func (fs rosterFS) Remove(name string) error {
	if err := fs.goes(name); err != nil {
		return err
	}
	return fs.FS.Remove(name)
}

// Unwrap returns the file system below.
func (fs rosterFS) Unwrap() vfs.FS { return fs.FS }

// manifestFile counts what is appended, by one goroutine at a time, and enters it once it is synced.
type manifestFile struct {
	vfs.File
	keeper *keeper
	is     manifest
}

// Write counts.
func (f *manifestFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.is.bytes += uint64(n)
	return n, err
}

// Sync enters the length.
func (f *manifestFile) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	return f.keeper.manifestSynced(f.is)
}

// SyncData is Sync.
func (f *manifestFile) SyncData() error { return f.Sync() }
