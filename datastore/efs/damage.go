package efs

import (
	"context"
	"crypto/sha256"
	"errors"

	mh "github.com/multiformats/go-multihash"
	_ "github.com/multiformats/go-multihash/register/all" // every hash function that a block may carry
)

// ErrCorrupt is what Get fails with when a block's file does not hash to its
// name, read twice. The block is not served. The next Put of it writes it again.
var ErrCorrupt = errors.New("block is corrupt")

// errDamaged is one read of a file that does not hash to its name.
var errDamaged = errors.New("its bytes do not hash to its name")

// matches reports whether a value is what its name, a multihash, promises. Names
// that are something else promise nothing. SHA-256 of 256 KiB takes 0.2 ms.
func matches(name string, value []byte) bool {
	if want, ok := digestOf(name); ok {
		return sha256.Sum256(value) == want
	}
	raw, err := keyEncoding.DecodeString(name)
	if err != nil {
		return true
	}
	want, err := mh.Decode(raw)
	if err != nil || want.Code == mh.IDENTITY {
		return true
	}
	if _, err := mh.GetHasher(want.Code); err != nil {
		return true
	}
	got, err := mh.Sum(value, want.Code, want.Length)
	return err != nil || string(got) == string(raw)
}

type fromDisk struct{}

// FromDisk returns a context with which Get reads the file, and no copy of it in
// memory or in the read cache: for checks of what is on disk.
func FromDisk(ctx context.Context) context.Context { return context.WithValue(ctx, fromDisk{}, true) }
