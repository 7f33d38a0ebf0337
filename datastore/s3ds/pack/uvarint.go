package pack

import (
	"errors"
	"fmt"
	"io"

	mh "github.com/multiformats/go-multihash"
	"github.com/multiformats/go-varint"
)

// decodeUvarint reads a minimal uvarint. A b that ends too early gives
// io.ErrUnexpectedEOF, so that callers can tell "torn" from "wrong".
func decodeUvarint(b []byte) (v uint64, n int, err error) {
	v, n, err = varint.FromUvarint(b)
	if errors.Is(err, varint.ErrUnderflow) {
		err = io.ErrUnexpectedEOF
	}
	return v, n, err
}

// decodeMultihash reads the multihash at the start of b, n bytes long.
func decodeMultihash(b []byte) (code uint64, digest []byte, n int, err error) {
	code, n, err = decodeUvarint(b)
	if err != nil {
		return 0, nil, 0, err
	}
	size, m, err := decodeUvarint(b[n:])
	if err != nil {
		return 0, nil, 0, err
	}
	n += m
	if size < MinDigest && code != mh.IDENTITY {
		return 0, nil, 0, fmt.Errorf("digest of %d bytes: at least %d prove something", size, MinDigest)
	}
	if size > MaxDigest {
		return 0, nil, 0, fmt.Errorf("digest of %d bytes: %w: at most %d fit", size, ErrTooLarge, MaxDigest)
	}
	if uint64(len(b)-n) < size {
		return 0, nil, 0, io.ErrUnexpectedEOF
	}
	end := n + int(size)
	return code, b[n:end:end], end, nil
}
