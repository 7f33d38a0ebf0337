package s3ds

import (
	"fmt"
	"strings"

	ds "github.com/ipfs/go-datastore"
	mh "github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// A name is what the index knows a value by: the multihash of a block, or a zero byte and the text of any other key. No
// multihash begins with a zero byte but identity hashes, whose keys are taken for text.
type name []byte

// nameOf returns the name of a key, and its multihash if it is the name of a block that can be verified.
func nameOf(key ds.Key) (name, mh.Multihash) {
	text := key.String()
	if sum, ok := multihashOf(key); ok {
		raw, err := base32Key.DecodeString(text[1:])
		// base32 has several texts for some bytes; only one of them comes back.
		if err == nil && base32Key.EncodeToString(raw) == text[1:] && len(sum.Digest) >= pack.MinDigest {
			return name(raw), mh.Multihash(raw)
		}
	}
	return append(name{0}, text...), nil
}

// key is the inverse of nameOf.
func (n name) key() ds.Key {
	if len(n) > 0 && n[0] == 0 {
		return ds.RawKey(string(n[1:]))
	}
	return ds.RawKey("/" + base32Key.EncodeToString(n))
}

// multihash returns the multihash that n is, nil if it is something else.
func (n name) multihash() mh.Multihash {
	if len(n) > 0 && n[0] != 0 {
		return mh.Multihash(n)
	}
	return nil
}

// checkKey refuses keys that the index cannot hold, or whose objects would be taken for something else.
func checkKey(key ds.Key, n name) error {
	text := strings.TrimPrefix(key.String(), "/")
	switch {
	case len(n) > index.MaxKey:
		return fmt.Errorf("key of %d bytes: at most %d are possible", len(n)-1, index.MaxKey-1)
	case text == "":
		return fmt.Errorf("key %q names nothing", key)
	case text == ownerName, text == reposName, strings.HasPrefix(text, probeName), strings.HasPrefix(text, privateName):
		return fmt.Errorf("key %q: this name is reserved", key)
	}
	if _, err := pack.ParseName(text); err == nil {
		return fmt.Errorf("key %q: this is how packs are called", key)
	}
	return nil
}
