package journal_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/journal"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// openFile is the name of a segment that was being written.
const openFile = "018bfa2e5c80-n3k7q.open"

// growing makes the bytes of a segment that was not sealed.
func growing(t require.TestingT, blocks ...pack.Block) (b []byte, ends []int) {
	b = pack.Prologue(0)
	for _, blk := range blocks {
		var err error
		b, err = pack.AppendSection(b, blk)
		require.NoError(t, err)
		ends = append(ends, len(b))
	}
	return b, ends
}

// diskWith is a disk with these files in the journal's folder, all synced.
func diskWith(t require.TestingT, files map[string][]byte) *testFS {
	mem := vfs.NewMem() // no crash in these tests
	require.NoError(t, mem.MkdirAll(dir, 0o700))
	for name, b := range files {
		f, err := mem.Create(mem.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		_, err = f.Write(slices.Clone(b))
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	return wrapFS(mem)
}

func fileNames(t require.TestingT, fs *testFS) []string {
	names, err := fs.mem.List(dir)
	require.NoError(t, err)
	names = slices.DeleteFunc(names, func(n string) bool { return n == "LOCK" })
	slices.Sort(names)
	return names
}

func small(t require.TestingT) []pack.Block {
	return []pack.Block{
		blockOf(t, []byte("first")), blockOf(t, nil),
		blockOf(t, bytes.Repeat([]byte{7}, 150)), blockOf(t, []byte("last")),
	}
}

// Wherever the last section was torn, the tail is cut and the rest is there.
func TestTornTail(t *testing.T) {
	blocks := small(t)
	whole, ends := growing(t, blocks...)
	before := ends[len(ends)-2]
	for n := range len(whole) + 1 {
		fs := diskWith(t, map[string][]byte{openFile: whole[:n]})
		j, rec := reopen(t, options(fs))
		good, end := 0, pack.FirstSection
		for i, e := range ends {
			if n >= e {
				good, end = i+1, e
			}
		}
		require.Equal(t, good, rec.Blocks, "%d bytes", n)
		require.Len(t, held(t, j), good)
		requireHeld(t, j, blocks[:good]...)
		require.Empty(t, rec.Damaged, "%d bytes", n)
		if n <= end {
			require.Empty(t, rec.Cut, "%d bytes", n)
		} else {
			require.Len(t, rec.Cut, 1, "%d bytes", n)
			require.EqualValues(t, end, rec.Cut[0].Offset)
			require.EqualValues(t, n-end, rec.Cut[0].Bytes)
			require.Contains(t, rec.Cut[0].String(), openFile)
		}
		if good == 0 {
			require.Empty(t, fileNames(t, fs), "nothing in it, nothing kept")
			continue
		}
		s := next(t, j)
		require.NoError(t, s.Verify())
		require.Equal(t, []string{s.Name().String()}, fileNames(t, fs))
		put(t, j, numbered(t, 1, 10)) // and on it goes
		require.NoError(t, j.Close())
		if n >= before {
			require.GreaterOrEqual(t, good, 3)
		}
	}
}

// Pages that never reached the disk read as zeros or as anything.
func TestTornTailOfAnything(t *testing.T) {
	blocks := small(t)
	whole, _ := growing(t, blocks...)
	for what, tail := range map[string][]byte{
		"zeros":         make([]byte, 10_000),
		"ones":          bytes.Repeat([]byte{0xff}, 10_000),
		"marks":         bytes.Repeat([]byte{0x01, 0x55}, 5_000),
		"empty hashes":  bytes.Repeat([]byte{0x04, 0x01, 0x55, 0x12, 0x00}, 2_000),
		"large lengths": bytes.Repeat([]byte{0xff, 0xff, 0xff, 0x03, 0x01, 0x55, 0x12, 0x20}, 2_000),
	} {
		fs := diskWith(t, map[string][]byte{openFile: append(slices.Clone(whole), tail...)})
		j, rec := reopen(t, options(fs))
		require.Len(t, rec.Cut, 1, what)
		require.EqualValues(t, len(tail), rec.Cut[0].Bytes, what)
		require.Empty(t, rec.Damaged, what)
		requireHeld(t, j, blocks...)
		require.Len(t, held(t, j), len(blocks), what)
	}
}

// A block may hold bytes that look like sections and cost much to refuse. The
// search gives up, says so, and keeps the file.
func TestCraftedTail(t *testing.T) {
	blocks := small(t)
	whole, _ := growing(t, blocks...)
	unit := append([]byte{0x80, 0x80, 0x40, 0x01, 0x55, 0x12, 0x20}, make([]byte, 32)...) // claims 1 MiB
	fs := diskWith(t, map[string][]byte{openFile: append(append(slices.Clone(whole), 0), bytes.Repeat(unit, 2<<20/len(unit))...)})
	j, rec := reopen(t, options(fs))
	requireHeld(t, j, blocks...)
	require.Len(t, rec.Damaged, 1)
	require.Contains(t, rec.Damaged[0].Reason, "gave up")
	require.Contains(t, fileNames(t, fs), openFile+".damaged")
}

// A flipped bit in the middle is not a tail: it is named, and what follows it
// is kept. In the last section it cannot be told from a tail, and is named too.
func TestFlippedBitInOpenSegment(t *testing.T) {
	blocks := small(t)
	whole, ends := growing(t, blocks...)
	for i := range whole {
		bad := slices.Clone(whole)
		bad[i] ^= 1 << (i % 8)
		fs := diskWith(t, map[string][]byte{openFile: bad})
		j, rec := reopen(t, options(fs))
		hit := slices.IndexFunc(ends, func(e int) bool { return i < e })
		if i < pack.FirstSection {
			require.Empty(t, rec.Damaged, "byte %d: the header holds nothing that is not known", i)
			require.Empty(t, rec.Cut)
			requireHeld(t, j, blocks...)
			require.NoError(t, next(t, j).Verify())
			continue
		}
		start := pack.FirstSection
		if hit > 0 {
			start = ends[hit-1]
		}
		rest := slices.Delete(slices.Clone(blocks), hit, hit+1)
		requireHeld(t, j, rest...)
		got := held(t, j)
		delete(got, string(blocks[hit].Multihash))
		require.Len(t, got, len(rest))
		require.NoError(t, next(t, j).Verify(), "what is uploaded is whole")
		found := rec.Damaged
		if hit == len(blocks)-1 {
			found = rec.Cut
			require.Empty(t, rec.Damaged)
		} else {
			require.Empty(t, rec.Cut)
			kept, err := fs.mem.UnsafeGetFileDataBuffer(fs.mem.PathJoin(dir, openFile+".damaged"))
			require.NoError(t, err)
			require.Equal(t, bad, kept, "the original is kept")
		}
		require.Len(t, found, 1, "byte %d", i)
		require.EqualValues(t, start, found[0].Offset, "byte %d", i)
		require.EqualValues(t, ends[hit]-start, found[0].Bytes, "byte %d", i)
		require.True(t, strings.HasSuffix(found[0].File, openFile))
	}
}

// A flipped bit in a sealed segment: the index heals, a block is named when it
// is read and when the pack is verified, and is never served.
func TestFlippedBitInSealedSegment(t *testing.T) {
	blocks := small(t)
	fs := newFS()
	j := open(t, options(fs))
	put(t, j, blocks...)
	require.NoError(t, j.Close())
	name := fileNames(t, fs)[0]
	parsed, err := pack.ParseName(name)
	require.NoError(t, err)
	whole, err := fs.mem.UnsafeGetFileDataBuffer(fs.mem.PathJoin(dir, name))
	require.NoError(t, err)
	for i := range whole {
		bad := slices.Clone(whole)
		bad[i] ^= 1 << (i % 8)
		fs := diskWith(t, map[string][]byte{name: bad})
		j, rec := reopen(t, options(fs))
		s := next(t, j)
		if i < pack.FirstSection || int64(i) >= parsed.IndexOffset {
			require.Len(t, rec.Damaged, 1, "byte %d", i)
			require.Contains(t, rec.Damaged[0].String(), name)
			requireHeld(t, j, blocks...)
			require.NoError(t, s.Verify(), "byte %d: healed from the sections", i)
			require.Equal(t, name, s.Name().String())
			continue
		}
		require.Empty(t, rec.Damaged, "sections are not read at the start")
		bads := 0
		for b, err := range j.Blocks() {
			require.NoError(t, err)
			data, err := j.Get(b.Location, b.Multihash)
			if err == nil {
				require.NoError(t, pack.Verify(b.Multihash, data))
				continue
			}
			bads++
			var c *pack.CorruptError
			require.ErrorAs(t, err, &c)
			require.Equal(t, b.Offset, c.Offset)
			require.Contains(t, err.Error(), name)
			require.True(t, b.Offset <= int64(i) && int64(i) < b.Offset+b.Length)
		}
		require.Equal(t, 1, bads, "byte %d", i)
		require.ErrorIs(t, s.Verify(), pack.ErrCorrupt)
		require.ErrorContains(t, s.Verify(), name)
	}
}

// Damage in the index and in a section of one file: the rest is saved.
func TestSealedSegmentWithoutIndex(t *testing.T) {
	blocks := small(t)
	b, ends := growing(t, blocks...)
	b[ends[0]-1] ^= 1
	name := pack.Name{ID: 5, Writer: "w", IndexOffset: int64(len(b)), IndexCRC: 1}.String()
	fs := diskWith(t, map[string][]byte{name: b})
	j, rec := reopen(t, options(fs))
	require.Len(t, rec.Damaged, 2, "the section and the index")
	requireHeld(t, j, blocks[1:]...)
	s := next(t, j)
	require.EqualValues(t, 5, s.ID())
	require.NoError(t, s.Verify())
	require.Equal(t, []string{s.Name().String(), name + ".damaged"}, sorted(fileNames(t, fs)))
}

func sorted(s []string) []string { slices.Sort(s); return s }

// Leftovers of every step of sealing.
func TestLeftovers(t *testing.T) {
	blocks := small(t)
	src := newFS()
	j := open(t, options(src))
	put(t, j, blocks...)
	require.NoError(t, j.Close())
	car := fileNames(t, src)[0]
	sealed, err := src.mem.UnsafeGetFileDataBuffer(src.mem.PathJoin(dir, car))
	require.NoError(t, err)
	name, err := pack.ParseName(car)
	require.NoError(t, err)
	stem := strings.Join(strings.Split(car, "-")[:2], "-")
	whole, _ := growing(t, blocks...)
	halfIndex := slices.Clone(sealed[:len(sealed)-10])
	copy(halfIndex, whole[:pack.FirstSection])
	other := pack.Name{ID: name.ID, Writer: name.Writer, IndexOffset: name.IndexOffset, IndexCRC: 1}.String()

	for what, c := range map[string]struct {
		files map[string][]byte
		want  []string // files afterwards
	}{
		"index half written":      {map[string][]byte{stem + ".open": halfIndex}, []string{car}},
		"sealed but not renamed":  {map[string][]byte{stem + ".open": sealed}, []string{car}},
		"renamed, and both names": {map[string][]byte{stem + ".open": sealed, car: sealed}, []string{car}},
		"copy not finished":       {map[string][]byte{stem + ".open": whole, stem + ".tmp": whole[:100]}, []string{car}},
		"copy under its name":     {map[string][]byte{stem + ".open": append(slices.Clone(whole), 1, 2, 3), car: sealed}, []string{car}},
		"repair of a sealed file": {map[string][]byte{other: sealed, car: sealed}, []string{car, other + ".damaged"}},
		"files of other people":   {map[string][]byte{car: sealed, "README": []byte("x"), "a.open": nil}, []string{car, "README", "a.open"}},
	} {
		t.Run(what, func(t *testing.T) {
			fs := diskWith(t, c.files)
			j, rec := reopen(t, options(fs))
			require.Equal(t, len(blocks), rec.Blocks)
			requireHeld(t, j, blocks...)
			s := next(t, j)
			require.NoError(t, s.Verify())
			require.Equal(t, car, s.Name().String(), "the same pack under the same name")
			require.ElementsMatch(t, c.want, fileNames(t, fs))
		})
	}
	t.Run("two whole files of one segment", func(t *testing.T) {
		f := new(growingFile)
		w := pack.NewWriter(f)
		_, err := w.Append(blocks[0])
		require.NoError(t, err)
		s, err := w.Seal(name.ID, name.Writer)
		require.NoError(t, err)
		fs := diskWith(t, map[string][]byte{car: sealed, s.Name.String(): f.b})
		_, _, err = journal.Open(dir, options(fs))
		require.ErrorContains(t, err, "the same segment")
		require.ErrorContains(t, err, "ipfs dag import")
		require.Len(t, fileNames(t, fs), 2, "nothing is touched")
	})
}

type growingFile struct{ b []byte }

func (m *growingFile) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

// A disk that cannot be read is not a torn tail.
func TestUnreadableDisk(t *testing.T) {
	blocks := small(t)
	whole, _ := growing(t, blocks...)
	fs := diskWith(t, map[string][]byte{openFile: whole})
	_, _, err := journal.Open(dir, journal.Options{Writer: "w", FS: unreadable{fs}})
	require.ErrorIs(t, err, syscall.EIO)
	require.Equal(t, []string{openFile}, fileNames(t, fs), "nothing is touched")
	j, rec := reopen(t, options(fs))
	require.Empty(t, rec.Cut)
	requireHeld(t, j, blocks...)
}

type unreadable struct{ *testFS }

func (u unreadable) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := u.testFS.OpenReadWrite(name, c, o...)
	return badFile{f}, err
}

type badFile struct{ vfs.File }

func (badFile) ReadAt([]byte, int64) (int, error) {
	return 0, &os.PathError{Op: "read", Path: "x", Err: syscall.EIO}
}

// Damage is repaired into a new file; without room for it, nothing is touched.
func TestRepairNeedsRoom(t *testing.T) {
	blocks := small(t)
	whole, ends := growing(t, blocks...)
	whole[ends[0]-1] ^= 1
	fs := diskWith(t, map[string][]byte{openFile: whole})
	fs.setFree(10)
	_, _, err := journal.Open(dir, options(fs))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, "repair "+dir+"/"+openFile)
	require.Equal(t, []string{openFile}, fileNames(t, fs))
	fs.setFree(-1)
	j, rec := reopen(t, options(fs))
	require.Len(t, rec.Damaged, 1)
	requireHeld(t, j, blocks[1:]...)
}

// What was journalled by an older version is read for ever.
func TestGolden(t *testing.T) {
	files := make(map[string][]byte)
	names, err := filepath.Glob("testdata/golden/*")
	require.NoError(t, err)
	require.Len(t, names, 2)
	for _, n := range names {
		b, err := os.ReadFile(n)
		require.NoError(t, err)
		files[filepath.Base(n)] = b
	}
	j, rec := reopen(t, options(diskWith(t, files)))
	require.Equal(t, 8, rec.Blocks)
	require.Empty(t, rec.Damaged)
	require.Empty(t, rec.Cut)
	requireHeld(t, j, small(t)...)
	requireHeld(t, j, blockOf(t, []byte("0")), blockOf(t, []byte("3")))
}

// What is written today is what was written then.
func TestGoldenBytes(t *testing.T) {
	fs := newFS()
	o := options(fs)
	o.IDs = pack.NewIDs(pack.MaxID - 10) // the names do not depend on the time
	j := open(t, o)
	for i := range 4 {
		put(t, j, blockOf(t, []byte{'0' + byte(i)}))
	}
	read := func() (string, []byte) {
		name := fileNames(t, fs)[0]
		b, err := fs.mem.UnsafeGetFileDataBuffer(fs.mem.PathJoin(dir, name))
		require.NoError(t, err)
		return name, b
	}
	name, b := read()
	requireGolden(t, name, b)
	require.NoError(t, j.Close())

	o.IDs = pack.NewIDs(pack.MaxID - 9)
	fs = newFS()
	o.FS = fs
	j = open(t, o)
	put(t, j, small(t)...)
	require.NoError(t, j.Close())
	name, b = read()
	requireGolden(t, name, b)
}

func requireGolden(t *testing.T, name string, b []byte) {
	path := filepath.Join("testdata", "golden", name)
	if *rewrite {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, b, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want, b)
}

// Whatever is in the folder: a journal that works, every block of it verified,
// or an error.
func FuzzOpenSegment(f *testing.F) {
	whole, ends := growing(f, small(f)...)
	f.Add(whole, false)
	f.Add(whole[:ends[1]+5], false)
	f.Add(append(slices.Clone(whole[:ends[0]-1]), whole[ends[0]:]...), false)
	sealed, err := os.ReadFile("testdata/golden/fffffffffff7-n3k7q-000000000179-90b22617.car")
	require.NoError(f, err)
	f.Add(sealed, true)
	f.Fuzz(func(t *testing.T, b []byte, isSealed bool) {
		name := openFile
		if isSealed {
			name = pack.Name{ID: 5, Writer: "w", IndexOffset: max(int64(len(b)-100), pack.FirstSection+1)}.String()
		}
		fs := diskWith(t, map[string][]byte{name: b})
		j, rec, err := journal.Open(dir, options(fs))
		require.NoError(t, err, "no content stops a node from starting")
		defer j.Close()
		got := held(t, j) // verifies each
		require.GreaterOrEqual(t, rec.Blocks, len(got))
		fresh := blockOf(t, []byte("fresh"))
		put(t, j, fresh)
		requireHeld(t, j, fresh)
		require.NoError(t, j.Seal(t.Context()))
		for j.Stats().Ready > 0 {
			s := next(t, j)
			require.NoError(t, s.Verify())
			for _, err := range pack.Sections(io.NewSectionReader(s, 0, s.Size())) {
				require.NoError(t, err)
			}
		}
	})
}
