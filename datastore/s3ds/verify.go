package s3ds

import (
	"bytes"
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"io"

	ds "github.com/ipfs/go-datastore"
	mh "github.com/multiformats/go-multihash"
	_ "github.com/multiformats/go-multihash/register/all" // every hash function that a block may carry

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// ErrCorrupt is what Get fails with when the bytes in the bucket are not those that the key, a multihash, promises: read
// twice, and wrong both times. Put the block again, or delete it and let the node fetch it.
var ErrCorrupt = errors.New("block is corrupt")

// verified reads a value and checks it against its key. A mismatch is counted, and the value is read once more: bytes that
// were damaged on the way come out right the second time, bytes that are damaged in the bucket do not.
func (d *Datastore) verified(ctx context.Context, key ds.Key) ([]byte, error) {
	object := d.object(key)
	sum, isHash := multihashOf(key)
	for attempt := 1; ; attempt++ {
		value, err := d.read(ctx, object)
		if err != nil {
			return nil, err
		}
		if !isHash {
			return value, nil
		}
		ok, err := matches(sum, value)
		if err != nil {
			return nil, fmt.Errorf("hash object %q: %w", object, err)
		}
		if ok {
			return value, nil
		}
		d.mismatches.Add(1)
		if attempt == 2 {
			return nil, fmt.Errorf("object %q at offset 0, %d bytes, read twice: %w: its bytes do not hash to its name; put the block again or delete it",
				object, len(value), ErrCorrupt)
		}
	}
}

// read returns a whole object.
func (d *Datastore) read(ctx context.Context, object string) ([]byte, error) {
	body, info, err := d.b.Get(ctx, object, bucket.Range{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	if info.Size > maxValue {
		return nil, fmt.Errorf("object %q has %d bytes: no block is larger than %d, remove it from under rootDirectory", object, info.Size, maxValue)
	}
	value := make([]byte, info.Size)
	if _, err := io.ReadFull(body, value); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read object %q of %d bytes: %w", object, info.Size, err)
	}
	return value, nil
}

var base32Key = base32.StdEncoding.WithPadding(base32.NoPadding)

// multihashOf returns the multihash that key is the base32 form of, as kubo names blocks. Keys that are something else are
// not verified; neither are identity multihashes, whose blocks are never stored.
func multihashOf(key ds.Key) (*mh.DecodedMultihash, bool) {
	name := key.String()
	if len(name) < 2 {
		return nil, false
	}
	raw, err := base32Key.DecodeString(name[1:])
	if err != nil {
		return nil, false
	}
	sum, err := mh.Decode(raw)
	if err != nil || sum.Code == mh.IDENTITY {
		return nil, false
	}
	if _, err := mh.GetHasher(sum.Code); err != nil {
		return nil, false
	}
	return sum, true
}

func matches(want *mh.DecodedMultihash, value []byte) (bool, error) {
	got, err := mh.Sum(value, want.Code, want.Length)
	if err != nil {
		return false, err
	}
	sum, err := mh.Decode(got)
	if err != nil {
		return false, err
	}
	return bytes.Equal(sum.Digest, want.Digest), nil
}
