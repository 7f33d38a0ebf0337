package identity

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/mr-tron/base58"
	"github.com/stretchr/testify/require"
)

const goldenSeed = "correct horse battery staple, and then some"

// The golden values are the contract: if one changes, every cluster that was
// made with a seed loses its peers' identities.
func TestGolden(t *testing.T) {
	for name, want := range map[string]string{
		"task-1":     "12D3KooWPyfnCTs8bgyBKpvGPRqy3bGn9PtLQxQ5omDNcCgCtm8f",
		"task-2":     "12D3KooWQEvizQ6ReMGfwmkgKsTAsQBx1n7zAhurZNUYikchLTu1",
		"Zürich/a b": "12D3KooWJbUb78P8b6bCLqJndTSwQBSAiCaZWcuN1pnKwp9jJDRn",
	} {
		seed, err := NewSeed([]byte(goldenSeed))
		require.NoError(t, err)
		id, err := seed.Identity(name)
		require.NoError(t, err)
		require.Equal(t, want, id.ID.String(), name)
		require.True(t, id.ID.MatchesPrivateKey(id.Key))
	}
}

// A second implementation, from the text of the package's documentation alone.
func TestDerivationIsAsDocumented(t *testing.T) {
	const name = "task-1"
	mac := func(key, msg []byte) []byte {
		h := hmac.New(sha256.New, key)
		h.Write(msg)
		return h.Sum(nil)
	}
	prk := mac(make([]byte, 32), []byte(goldenSeed))
	okm := mac(prk, []byte("ipfs-aws cluster identity v1/"+name+"\x01"))
	pub := ed25519.NewKeyFromSeed(okm).Public().(ed25519.PublicKey)
	protobuf := append([]byte{0x08, 0x01, 0x12, 0x20}, pub...) // KeyType Ed25519, Data
	multihash := append([]byte{0x00, byte(len(protobuf))}, protobuf...)

	seed, err := NewSeed([]byte(goldenSeed))
	require.NoError(t, err)
	id, err := seed.Identity(name)
	require.NoError(t, err)
	require.Equal(t, base58.Encode(multihash), id.ID.String())
}

func TestWhiteSpaceAroundASeedDoesNotCount(t *testing.T) {
	ids := map[peer.ID]bool{}
	for _, text := range []string{goldenSeed, goldenSeed + "\n", "\t " + goldenSeed + "\r\n"} {
		seed, err := NewSeed([]byte(text))
		require.NoError(t, err)
		id, err := seed.Identity("a")
		require.NoError(t, err)
		ids[id.ID] = true
	}
	require.Len(t, ids, 1)
}

func TestNamesAndSeedsSeparate(t *testing.T) {
	ids := map[peer.ID]bool{}
	for _, text := range []string{goldenSeed, strings.ToUpper(goldenSeed)} {
		for _, name := range []string{"a", "b", "ab"} {
			seed, err := NewSeed([]byte(text))
			require.NoError(t, err)
			id, err := seed.Identity(name)
			require.NoError(t, err)
			ids[id.ID] = true
		}
	}
	require.Len(t, ids, 6)
}

func TestASeedThatIsTooShortIsRefusedWithoutQuotingIt(t *testing.T) {
	secret := strings.Repeat("s", MinSeedLength-1)
	_, err := NewSeed([]byte(secret + "   \n"))
	require.ErrorContains(t, err, "31 bytes")
	require.NotContains(t, err.Error(), secret)
	_, err = NewSeed([]byte(secret + "s"))
	require.NoError(t, err)
}

func TestNoIdentityWithoutSeedOrName(t *testing.T) {
	_, err := Seed{}.Identity("a")
	require.ErrorContains(t, err, "no seed")
	seed, err := NewSeed([]byte(goldenSeed))
	require.NoError(t, err)
	_, err = seed.Identity("")
	require.ErrorContains(t, err, "no name")
}

func TestASeedDoesNotPrint(t *testing.T) {
	seed, err := NewSeed([]byte(goldenSeed))
	require.NoError(t, err)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		out := fmt.Sprintf(format, struct{ S Seed }{seed})
		require.NotContains(t, out, "horse", format)
		require.NotContains(t, fmt.Sprintf(format, &seed), "horse", format)
	}
}
