package cars

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-varint"
)

// Kinds of a Pin. A root of MFS is no pin; it is written down so that what is in there can be found again.
const (
	Recursive = "recursive"
	Direct    = "direct"
	MFSRoot   = "mfs-root"
)

// Pin is something that a node keeps.
type Pin struct {
	CID  cid.Cid `json:"-"`
	Kind string  `json:"kind"`
	Name string  `json:"name,omitempty"`
}

type pinLine struct {
	CID string `json:"cid"`
	Pin
}

const (
	pinsFile = "pins.jsonl"
	// rootsOfOne is how many roots a CAR of pins has: 400 KiB of header, far below the 32 MiB that go-car reads.
	rootsOfOne = 10_000
)

func rootsFile(n int) string { return fmt.Sprintf("pins-%04d.car", n) }

// WritePins writes down what is pinned, in place of what was written before.
func (f *Folder) WritePins(pins iter.Seq2[Pin, error]) (written int, err error) {
	f.write.Lock()
	defer f.write.Unlock()
	path := filepath.Join(f.dir, pinsFile)
	out, err := os.OpenFile(path+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, fmt.Errorf("write down the pins: %w", err)
	}
	w := bufio.NewWriter(out)
	enc := json.NewEncoder(w)
	var roots []cid.Cid
	files := 0
	flush := func() error {
		if len(roots) == 0 {
			return nil
		}
		files++
		err := writeWhole(filepath.Join(f.dir, rootsFile(files)), headerOf(roots))
		roots = roots[:0]
		return err
	}
	err = func() error {
		for p, err := range pins {
			if err != nil {
				return err
			}
			if err := enc.Encode(pinLine{p.CID.String(), p}); err != nil {
				return err
			}
			written++
			if p.Kind != Recursive {
				continue
			}
			if roots = append(roots, p.CID); len(roots) == rootsOfOne {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return errors.Join(flush(), w.Flush(), out.Sync())
	}()
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(path+".part", path)
	}
	for n := files + 1; err == nil; n++ { // of an earlier backup, with more pins
		if gone := os.Remove(filepath.Join(f.dir, rootsFile(n))); errors.Is(gone, fs.ErrNotExist) {
			break
		} else {
			err = gone
		}
	}
	if err == nil {
		err = syncDir(f.dir)
	}
	if err != nil {
		return written, fmt.Errorf("write down the pins: %w", err)
	}
	return written, nil
}

// Pins yields what WritePins wrote; nothing if it never did.
func (f *Folder) Pins() iter.Seq2[Pin, error] {
	return func(yield func(Pin, error) bool) {
		path := filepath.Join(f.dir, pinsFile)
		in, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return
		} else if err != nil {
			yield(Pin{}, fmt.Errorf("read the pins: %w", err))
			return
		}
		defer in.Close()
		dec := json.NewDecoder(bufio.NewReader(in))
		for n := 1; ; n++ {
			var l pinLine
			err := dec.Decode(&l)
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				l.Pin.CID, err = cid.Decode(l.CID)
			}
			if err == nil && l.Kind != Recursive && l.Kind != Direct && l.Kind != MFSRoot {
				err = fmt.Errorf("kind %q is not known: use %s, %s or %s", l.Kind, Recursive, Direct, MFSRoot)
			}
			if err != nil {
				yield(Pin{}, fmt.Errorf("read the pins: line %d of %s: %w", n, path, err))
				return
			}
			if !yield(l.Pin, nil) {
				return
			}
		}
	}
}

// headerOf is a CARv1 without blocks: {"roots": […], "version": 1} in dag-cbor, and its length.
func headerOf(roots []cid.Cid) []byte {
	b := []byte{0xa2, 0x65, 'r', 'o', 'o', 't', 's'}
	b = appendHead(b, 4, len(roots))
	for _, c := range roots {
		b = append(b, 0xd8, 42) // tag: a CID
		b = appendHead(b, 2, 1+c.ByteLen())
		b = append(append(b, 0), c.Bytes()...)
	}
	b = append(b, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 1)
	return append(varint.ToUvarint(uint64(len(b))), b...)
}

// appendHead appends the head of a CBOR item with an argument below 65,536.
func appendHead(b []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(b, major<<5|byte(n))
	case n < 1<<8:
		return append(b, major<<5|24, byte(n))
	}
	return append(b, major<<5|25, byte(n>>8), byte(n))
}

func writeWhole(path string, content []byte) error {
	out, err := os.OpenFile(path+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(content)
	if err == nil {
		err = out.Sync()
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}
