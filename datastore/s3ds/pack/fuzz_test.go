package pack_test

import (
	"bytes"
	"testing"

	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// Whatever a bucket returns: entries that tile the pack, or an error.
func FuzzReadIndex(f *testing.F) {
	for _, blocks := range [][]pack.Block{golden(f), everyHash(f), {blockOf(f, nil)}} {
		b, name, _ := build(f, blocks...)
		f.Add(b[name.IndexOffset:], name.IndexOffset)
	}
	f.Fuzz(func(t *testing.T, b []byte, indexOffset int64) {
		entries, err := pack.DecodeIndex(b, indexOffset)
		if err != nil {
			require.ErrorIs(t, err, pack.ErrCorrupt)
			return
		}
		at := int64(pack.FirstSection)
		for _, e := range entries {
			require.Equal(t, at, e.Offset)
			require.GreaterOrEqual(t, e.DataLen(), int64(0))
			require.LessOrEqual(t, e.Length, int64(pack.MaxSectionLen))
			_, err := mh.Cast(e.Multihash)
			require.NoError(t, err)
			at += e.Length
		}
		require.Equal(t, indexOffset, at)
	})
}

// Whatever a disk or a bucket returns: a section that encodes back to the same
// bytes, or an error.
func FuzzDecodeSection(f *testing.F) {
	for _, blk := range append(golden(f), everyHash(f)...) {
		b, err := pack.AppendSection(nil, blk)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := pack.DecodeSection(b)
		if err != nil {
			require.ErrorIs(t, err, pack.ErrCorrupt)
			return
		}
		if pack.Verify(s.Multihash, s.Data) != nil {
			return
		}
		again, err := pack.AppendSection(nil, pack.Block{Multihash: s.Multihash, Data: s.Data})
		require.NoError(t, err)
		require.True(t, bytes.Equal(b[:s.Length], again))
	})
}

// Whatever a stream holds: verified sections, then the end or an error.
func FuzzSections(f *testing.F) {
	b, _, _ := build(f, golden(f)...)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		at := int64(pack.FirstSection)
		for s, err := range pack.Sections(bytes.NewReader(b)) {
			if err != nil {
				require.ErrorIs(t, err, pack.ErrCorrupt)
				return
			}
			require.Equal(t, at, s.Offset)
			require.NoError(t, pack.Verify(s.Multihash, s.Data))
			at += s.Length
		}
	})
}
