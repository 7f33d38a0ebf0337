package index

import (
	"encoding/hex"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The encodings are on users' disks: a change here is a new format version.
func TestLocationFormat(t *testing.T) {
	for _, c := range []struct {
		loc Location
		hex string
	}{
		{Location{Kind: Journal, Segment: 7, Offset: 0, Length: 0}, "01070000"},
		{Location{Kind: Journal, Segment: 300, Offset: 128, Length: 262144}, "01ac02800180801" + "0"},
		{Location{Kind: InPack, Pack: 1, Offset: 33554431, Length: 1}, "0201ffffff0f01"},
		{Location{Kind: InPack, Pack: math.MaxUint64, Offset: 0, Length: math.MaxInt64}, "02ffffffffffffffffff0100ffffffffffffffff7f"},
		{Location{Kind: Loose, Length: 5}, "0305"},
	} {
		b := appendLocation(nil, c.loc)
		require.Equal(t, c.hex, hex.EncodeToString(b))
		got, err := decodeLocation(b)
		require.NoError(t, err)
		require.Equal(t, c.loc, got)
	}
}

func TestLocationRefused(t *testing.T) {
	for name, h := range map[string]string{
		"empty":                "",
		"kind 0":               "0000",
		"unknown kind":         "0401",
		"only a kind":          "02",
		"cut short":            "020180",
		"trailing byte":        "030500",
		"longer than needed":   "038500",
		"pack 0":               "02000001",
		"end beyond int64":     "0201ffffffffffffffff7f01",
		"length beyond int64":  "03ffffffffffffffffff01",
		"number beyond uint64": "03ffffffffffffffffff7f",
	} {
		t.Run(name, func(t *testing.T) {
			b, err := hex.DecodeString(h)
			require.NoError(t, err)
			_, err = decodeLocation(b)
			require.Error(t, err)
		})
	}
}

func FuzzDecodeLocation(f *testing.F) {
	for _, l := range []Location{
		{Kind: Journal, Segment: 1, Offset: 2, Length: 3},
		{Kind: InPack, Pack: 99999, Offset: 1 << 25, Length: 1 << 18},
		{Kind: Loose, Length: math.MaxInt64},
	} {
		f.Add(appendLocation(nil, l))
	}
	f.Add([]byte{2, 0x80, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decodeLocation(b)
		if err != nil {
			return
		}
		require.NoError(t, l.check())
		require.Equal(t, b, appendLocation(nil, l), "one encoding for each location")
	})
}

func FuzzDecodePack(f *testing.F) {
	f.Add(appendPack(nil, Pack{ID: 1, Name: "packs/w/0001", Size: 1 << 25, IndexOffset: 1 << 24, Blocks: 128, Bytes: 1 << 24}))
	f.Add(appendPack(nil, Pack{ID: 1, Incomplete: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePack(1, b)
		if err != nil {
			return
		}
		require.Equal(t, b, appendPack(nil, p))
	})
}

func FuzzDecodeHead(f *testing.F) {
	b, err := encodeHead(Identity{"bucket", "prefix", "writer"})
	require.NoError(f, err)
	f.Add(b)
	f.Add(b[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		id, _, _, err := decodeHead(b)
		if err != nil {
			return
		}
		again, err := encodeHead(id)
		require.NoError(t, err)
		require.Equal(t, again[:headSize], b[:headSize])
	})
}
