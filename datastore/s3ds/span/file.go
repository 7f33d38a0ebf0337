package span

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A file of the cache holds one extent, in a form that proves itself page by page, so that reading a block does not mean
// reading the whole extent:
//
//	"s3dspan" | version byte 1
//	offset in the object   8 bytes big endian
//	length                 4 bytes
//	length of the key      2 bytes
//	key of the object
//	crc32c of each page    4 bytes each; pages have 64 KiB, the last one the rest
//	crc32c of all that     4 bytes
//	data
const (
	fileMagic = "s3dspan\x01"
	pageBytes = 64 << 10
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errDamaged = errors.New("file of the cache is damaged")
)

func pages(length int64) int64 { return (length + pageBytes - 1) / pageBytes }

func headSize(key string, length int64) int64 {
	return int64(len(fileMagic)) + 8 + 4 + 2 + int64(len(key)) + 4*pages(length) + 4
}

func fileSize(key string, length int64) int64 { return headSize(key, length) + length }

// appendHead appends to b what stands in a file in front of the data.
func appendHead(b []byte, key string, lo int64, data []byte) []byte {
	begin := len(b)
	b = append(b, fileMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(lo))
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
	b = append(b, key...)
	for rest := data; len(rest) > 0; {
		n := min(len(rest), pageBytes)
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(rest[:n], castagnoli))
		rest = rest[n:]
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[begin:], castagnoli))
}

// decodeHead returns the checksums of the pages, if head is that of the extent that is looked for.
func decodeHead(head []byte, key string, lo, length int64) (sums []byte, err error) {
	if lo < 0 || length <= 0 || length > extentBytes || int64(len(head)) != headSize(key, length) {
		return nil, fmt.Errorf("%w: head of %d bytes", errDamaged, len(head))
	}
	body, sum := head[:len(head)-4], head[len(head)-4:]
	if binary.BigEndian.Uint32(sum) != crc32.Checksum(body, castagnoli) {
		return nil, fmt.Errorf("%w: checksum of its head", errDamaged)
	}
	want := appendHead(nil, key, lo, nil)[:len(fileMagic)+8]
	if !bytes.HasPrefix(body, want) {
		return nil, fmt.Errorf("%w: it is about another place", errDamaged)
	}
	rest := body[len(want):]
	n, k := binary.BigEndian.Uint32(rest), int(binary.BigEndian.Uint16(rest[4:]))
	if rest = rest[6:]; int64(n) != length || k != len(key) || string(rest[:k]) != key {
		return nil, fmt.Errorf("%w: it is about another object", errDamaged)
	}
	return rest[k:], nil
}

// checkPages compares pages with their checksums.
func checkPages(b, sums []byte) error {
	for page := 0; len(b) > 0; page++ {
		n := min(len(b), pageBytes)
		if len(sums) < 4 || binary.BigEndian.Uint32(sums) != crc32.Checksum(b[:n], castagnoli) {
			return fmt.Errorf("%w: checksum of page %d", errDamaged, page)
		}
		b, sums = b[n:], sums[4:]
	}
	return nil
}
