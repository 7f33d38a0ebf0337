package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// MinSeedLength is the least number of bytes that a seed may have: 32, the
// strength of the keys that are derived from it. A seed of random hexadecimal
// digits should have 64.
const MinSeedLength = 32

const infoPrefix = "ipfs-aws cluster identity v1/"

// Identity is a peer's private key with the ID that follows from it.
type Identity struct {
	ID  peer.ID
	Key crypto.PrivKey
}

// Seed is a cluster's shared seed. It prints as a placeholder, so that it
// cannot reach a log by accident. The zero Seed means "none".
type Seed struct{ text []byte }

// NewSeed takes a seed as an operator wrote it. White space around it does not
// count, so a file may end with a newline. It fails when fewer than
// [MinSeedLength] bytes remain; the error does not contain the seed.
func NewSeed(text []byte) (Seed, error) {
	text = bytes.Trim(text, " \t\r\n")
	if len(text) < MinSeedLength {
		return Seed{}, fmt.Errorf("has %d bytes, needs at least %d", len(text), MinSeedLength)
	}
	return Seed{text: bytes.Clone(text)}, nil
}

// IsZero reports whether there is no seed.
func (s Seed) IsZero() bool { return len(s.text) == 0 }

// String returns a placeholder, never the seed.
func (s Seed) String() string { return "(seed)" }

// GoString returns a placeholder, never the seed.
func (s Seed) GoString() string { return s.String() }

// Identity derives the identity of the peer with the given name. The same seed
// and name give the same identity, for ever. It fails for an empty name or the
// zero Seed.
func (s Seed) Identity(name string) (Identity, error) {
	if s.IsZero() {
		return Identity{}, fmt.Errorf("derive the identity of peer %q: there is no seed", name)
	}
	if name == "" {
		return Identity{}, fmt.Errorf("derive a peer identity: the peer has no name")
	}
	raw, err := hkdf.Key(sha256.New, s.text, nil, infoPrefix+name, ed25519.SeedSize)
	if err != nil {
		return Identity{}, fmt.Errorf("derive the identity of peer %q: %w", name, err)
	}
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(raw))
	if err != nil {
		return Identity{}, fmt.Errorf("derive the identity of peer %q: %w", name, err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return Identity{}, fmt.Errorf("derive the identity of peer %q: %w", name, err)
	}
	return Identity{ID: id, Key: key}, nil
}
