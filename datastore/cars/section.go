package cars

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"
	mh "github.com/multiformats/go-multihash"
	"github.com/multiformats/go-varint"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// section is where a block stands in a file, in bytes.
type section struct {
	hash   mh.Multihash
	offset int64 // of the section
	data   int64 // offset of the block
	size   int64 // of the block
}

const (
	// headBytes is enough for the length of a section and its CID.
	headBytes = 256
	// maxSection is the limit of go-car, and what a reader allocates on the word of a file.
	maxSection = 8 << 20
)

// sectionsOf calls do for every section of a file, in order. A pack tells where they are in its index; any other CAR, and a pack whose
// index is damaged, is read from section to section. What is wrong with the file is a *DamageError.
func sectionsOf(ctx context.Context, path string, do func(section) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if n, err := pack.ParseName(filepath.Base(path)); err == nil {
		if done, err := indexed(ctx, file, n, do); done {
			return err
		}
	}
	from, end, err := extent(file)
	if err != nil {
		return &DamageError{path, 0, err}
	}
	for at := from; at < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := readHead(file, at, end)
		if err != nil {
			return &DamageError{path, at, err}
		}
		if err := do(s); err != nil {
			return err
		}
		at = s.data + s.size
	}
	return nil
}

// indexed does what sectionsOf does with the index of a pack, if that is good.
func indexed(ctx context.Context, file *os.File, n pack.Name, do func(section) error) (done bool, err error) {
	fi, err := file.Stat()
	if err != nil {
		return true, err
	}
	entries, err := pack.ReadIndex(file, n, fi.Size())
	if err != nil {
		return false, nil
	}
	slices.SortFunc(entries, func(a, b pack.Entry) int { return int(a.Offset - b.Offset) })
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return true, err
		}
		size := e.DataLen()
		if err := do(section{e.Multihash, e.Offset, e.Offset + e.Length - size, size}); err != nil {
			return true, err
		}
	}
	return true, nil
}

// extent is where the sections of a CAR begin and end.
func extent(file *os.File) (from, end int64, err error) {
	fi, err := file.Stat()
	if err != nil {
		return 0, 0, err
	}
	car, err := carv2.NewReader(file)
	if err != nil {
		return 0, 0, fmt.Errorf("it is no CAR: %w", err)
	}
	end = fi.Size()
	if car.Version == 2 {
		from = int64(car.Header.DataOffset)
		if size := int64(car.Header.DataSize); size > 0 && from+size <= end {
			end = from + size
		} else if size > 0 {
			return 0, 0, fmt.Errorf("it is cut off: %d bytes are missing", from+size-end)
		}
	}
	head := make([]byte, varint.MaxLenUvarint63)
	k, err := file.ReadAt(head, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	length, n, err := varint.FromUvarint(head[:k])
	if err != nil || length > uint64(end-from) {
		return 0, 0, errors.New("its header is no header of a CAR")
	}
	return from + int64(n) + int64(length), end, nil
}

// readHead reads the length and the CID of a section.
func readHead(file io.ReaderAt, at, end int64) (section, error) {
	b := make([]byte, min(headBytes, end-at))
	if k, err := file.ReadAt(b, at); k < len(b) {
		return section{}, err
	}
	length, n, err := varint.FromUvarint(b)
	switch {
	case err != nil:
		return section{}, fmt.Errorf("length of a section: %w", err)
	case length > maxSection:
		return section{}, fmt.Errorf("a section of %d bytes: at most %d are possible", length, maxSection)
	case int64(n)+int64(length) > end-at:
		return section{}, fmt.Errorf("a section of %d bytes is cut off", length)
	}
	k, c, err := cid.CidFromBytes(b[n:min(len(b), n+int(length))])
	if err != nil {
		return section{}, fmt.Errorf("CID of a section: %w", err)
	}
	return section{mh.Multihash(c.Hash()), at, at + int64(n+k), int64(length) - int64(k)}, nil
}

// sectionAt reads the head of a section that was there when the folder was scanned.
func sectionAt(path string, at int64) (section, error) {
	file, err := os.Open(path)
	if err != nil {
		return section{}, err
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return section{}, err
	}
	s, err := readHead(file, at, fi.Size())
	if err != nil {
		return section{}, &DamageError{path, at, err}
	}
	return s, nil
}
