package efs

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

// The persisted index, version 1. Integers are unsigned varints unless said
// otherwise; fixed ones are little-endian. A string is its length and its bytes.
//
//	magic       "ipfs-aws efs index 1\n"
//	id          16 bytes, random, other for every file written
//	shard func  string
//	shards      number of shards, then for each:
//	  name      string
//	  flags     1 byte: 1 the stamp is valid, 2 it is too young to be believed alone
//	  stamp     mtime, ctime (ns since 1970) and inode, 8 bytes each
//	  sums      number, then for each: 32 bytes of SHA-256, size
//	  others    number, then for each: name (string), size
//	checksum    SHA-256 of all the above, 32 bytes
//
// 51,000 blocks of 256 KiB: 51,000 × (32 + 3) + 1,024 × 32 bytes = 1.8 MB.
const indexMagic = "ipfs-aws efs index 1\n"

const (
	flagStamped = 1
	flagRacy    = 2
)

type indexID [16]byte

// errBadIndex is wrapped by every error of the decoder. It costs a walk, never a block.
var errBadIndex = errors.New("the persisted index is damaged")

// indexEncoder writes a persisted index shard by shard, so that no second copy of the index is in memory.
type indexEncoder struct {
	w   *bufio.Writer
	sum hash.Hash
	out io.Writer
	err error
}

// encodeBuffer is one WRITE of an NFS client with the wsize that AWS
// recommends: 1 MiB.
const encodeBuffer = 1 << 20

func newIndexEncoder(out io.Writer, id indexID, shardFunc string, shards int) *indexEncoder {
	e := &indexEncoder{sum: sha256.New(), out: out}
	e.w = bufio.NewWriterSize(io.MultiWriter(out, e.sum), encodeBuffer)
	e.bytes([]byte(indexMagic))
	e.bytes(id[:])
	e.string(shardFunc)
	e.uint(uint64(shards))
	return e
}

// shard appends one shard. The caller keeps it from changing.
func (e *indexEncoder) shard(s *shard) {
	e.string(s.name)
	var flags byte
	if s.stamped {
		flags |= flagStamped
	}
	if s.racy {
		flags |= flagRacy
	}
	e.bytes([]byte{flags})
	var fixed [24]byte
	binary.LittleEndian.PutUint64(fixed[0:], uint64(s.stamp.Mtime))
	binary.LittleEndian.PutUint64(fixed[8:], uint64(s.stamp.Ctime))
	binary.LittleEndian.PutUint64(fixed[16:], s.stamp.Inode)
	e.bytes(fixed[:])
	e.uint(uint64(len(s.sums)))
	for d, size := range s.sums {
		e.bytes(d[:])
		e.uint(uint64(size))
	}
	e.uint(uint64(len(s.others)))
	for name, size := range s.others {
		e.string(name)
		e.uint(uint64(size))
	}
}

func (e *indexEncoder) bytes(b []byte) {
	if e.err == nil {
		_, e.err = e.w.Write(b)
	}
}

func (e *indexEncoder) string(s string) {
	e.uint(uint64(len(s)))
	if e.err == nil {
		_, e.err = e.w.WriteString(s)
	}
}

func (e *indexEncoder) uint(v uint64) {
	var b [binary.MaxVarintLen64]byte
	e.bytes(b[:binary.PutUvarint(b[:], v)])
}

func (e *indexEncoder) close() error {
	if e.err != nil {
		return e.err
	}
	if err := e.w.Flush(); err != nil {
		return err
	}
	_, err := e.out.Write(e.sum.Sum(nil))
	return err
}

// decodeIndex reads a persisted index whole, or returns an error that wraps
// errBadIndex. It believes nothing before the checksum is right.
func decodeIndex(data []byte) (id indexID, shardFunc string, shards []*shard, err error) {
	if !bytes.HasPrefix(data, []byte(indexMagic)) {
		return id, "", nil, fmt.Errorf("%w: it does not begin as an index of this version", errBadIndex)
	}
	if len(data) < len(indexMagic)+sha256.Size {
		return id, "", nil, fmt.Errorf("%w: it is cut short", errBadIndex)
	}
	body, check := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], check) {
		return id, "", nil, fmt.Errorf("%w: its checksum is wrong", errBadIndex)
	}
	return decodeIndexBody(body[len(indexMagic):])
}

func decodeIndexBody(body []byte) (id indexID, shardFunc string, shards []*shard, err error) {
	d := indexDecoder{data: body}
	copy(id[:], d.bytes(uint64(len(id))))
	shardFunc = d.string()
	seen := make(map[string]bool)
	for n := d.count(1 + 1 + 24 + 1 + 1); n > 0 && d.err == nil; n-- {
		s := newShard(d.string())
		if !validShardName(s.name) || seen[s.name] {
			d.fail("shard name")
		}
		seen[s.name] = true
		if flags := d.bytes(1); d.err == nil {
			if flags[0]&^(flagStamped|flagRacy) != 0 {
				d.fail("flags")
			}
			s.stamped, s.racy = flags[0]&flagStamped != 0, flags[0]&flagRacy != 0
		}
		if fixed := d.bytes(24); d.err == nil {
			s.stamp = vfs.Stamp{
				Mtime: int64(binary.LittleEndian.Uint64(fixed[0:])),
				Ctime: int64(binary.LittleEndian.Uint64(fixed[8:])),
				Inode: binary.LittleEndian.Uint64(fixed[16:]),
			}
		}
		sums := d.count(uint64(len(digest{})) + 1)
		s.sums = make(map[digest]uint32, sums)
		for ; sums > 0 && d.err == nil; sums-- {
			var sum digest
			copy(sum[:], d.bytes(uint64(len(sum))))
			size := d.uint()
			if _, double := s.sums[sum]; double || size > math.MaxUint32 {
				d.fail("block")
			}
			s.sums[sum] = uint32(size)
		}
		for others := d.count(1 + 1); others > 0 && d.err == nil; others-- {
			name := d.string()
			size := d.uint()
			if _, double := s.others[name]; double || !validName(name) || size > math.MaxInt64 {
				d.fail("block")
			}
			s.others[name] = int64(size)
		}
		s.made = true
		shards = append(shards, s)
	}
	if d.err == nil && len(d.data) > 0 {
		d.fail("end")
	}
	if d.err != nil {
		return id, "", nil, d.err
	}
	return id, shardFunc, shards, nil
}

func validShardName(name string) bool {
	return name != "" && name[0] != '.' && !strings.ContainsAny(name, "/\x00")
}

// indexDecoder takes values from the front of data. After the first failure all values are zero.
type indexDecoder struct {
	data []byte
	err  error
}

func (d *indexDecoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: bad %s", errBadIndex, what)
	}
}

func (d *indexDecoder) bytes(n uint64) []byte {
	if d.err != nil || n > uint64(len(d.data)) {
		d.fail("length")
		return nil
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b
}

func (d *indexDecoder) string() string { return string(d.bytes(d.uint())) }

func (d *indexDecoder) uint() uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.data)
	if n <= 0 {
		d.fail("number")
		return 0
	}
	d.data = d.data[n:]
	return v
}

// count takes a number of items that take at least size bytes each, so that a
// wrong number cannot make us reserve memory that the data do not fill.
func (d *indexDecoder) count(size uint64) int {
	n := d.uint()
	if d.err == nil && n > uint64(len(d.data))/size {
		d.fail("count")
		return 0
	}
	return int(n)
}
