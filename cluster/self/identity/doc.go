// Package identity computes the libp2p identity of a cluster peer from a seed
// that all peers of one cluster share, and the peer's own name.
//
// It keeps nothing. Given the seed, anybody can compute every peer's ID from
// its name alone, which is what makes a cluster describe itself: addresses and
// the list of trusted peers need no IDs in the settings, and a peer whose disk
// was lost comes back as itself.
//
// # Derivation
//
// Version 1, in terms of RFC 5869 (HKDF) and RFC 8032 (Ed25519):
//
//	IKM  = the seed: its bytes without leading and trailing white space
//	       (space, tab, CR, LF), at least 32 of them
//	salt = none (RFC 5869: a string of zeros as long as the hash)
//	info = "ipfs-aws cluster identity v1/" followed by the peer's name in UTF-8
//	L    = 32 bytes
//	hash = SHA-256
//
// The 32 bytes are the Ed25519 private key as RFC 8032 defines it (the "seed"
// of other libraries). The peer ID is libp2p's: the identity multihash of the
// protobuf-encoded public key, in base58btc ("12D3KooW…").
//
// Whoever holds the seed can become any peer of the cluster. It is a secret of
// the same rank as the private keys that it stands for.
//
// The derivation never changes. Another one would be version 2, with an info
// string of its own, chosen by a setting of its own.
package identity
