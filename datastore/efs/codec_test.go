package efs

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

// sampleShards are shards with everything that the format can hold.
func sampleShards() []*shard {
	a, b, c := newShard("AA"), newShard("_2"), newShard("ZZ")
	for i := range 300 {
		key, value := block(i)
		a.set(key.String()[1:], int64(len(value)))
	}
	a.stamp, a.stamped, a.racy = vfs.Stamp{Mtime: 1_700_000_000e9 + 1, Ctime: -1, Inode: 1 << 63}, true, true
	b.set("AFKREI", 0)
	b.set("Z-_=+9", 1<<40)
	key, _ := block(1)
	b.set(key.String()[1:], 5<<32) // too large for the short form
	return []*shard{a, b, c}
}

func encodeIndex(t testing.TB, id indexID, shards []*shard) []byte {
	t.Helper()
	var buf bytes.Buffer
	e := newIndexEncoder(&buf, id, DefaultShardFunc, len(shards))
	for _, s := range shards {
		e.shard(s)
	}
	require.NoError(t, e.close())
	return buf.Bytes()
}

func requireSameShards(t testing.TB, want, got []*shard) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, w := range want {
		g := got[i]
		require.Equal(t, w.name, g.name)
		require.Equal(t, w.sums, g.sums)
		require.Equal(t, w.others, g.others)
		require.Equal(t, w.stamp, g.stamp)
		require.Equal(t, w.stamped, g.stamped)
		require.Equal(t, w.racy, g.racy)
	}
}

func TestIndexRoundTrip(t *testing.T) {
	shards, id := sampleShards(), newIndexID()
	data := encodeIndex(t, id, shards)
	gotID, shardFunc, got, err := decodeIndex(data)
	require.NoError(t, err)
	require.Equal(t, id, gotID)
	require.Equal(t, DefaultShardFunc, shardFunc)
	requireSameShards(t, shards, got)
}

func TestNoDamagedIndexIsBelieved(t *testing.T) {
	data := encodeIndex(t, newIndexID(), sampleShards())
	for cut := range len(data) {
		_, _, _, err := decodeIndex(data[:cut])
		require.ErrorIs(t, err, errBadIndex)
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1 << (i % 8)
		_, _, _, err := decodeIndex(bad)
		require.ErrorIs(t, err, errBadIndex, "byte %d", i)
	}
	_, _, _, err := decodeIndex(append(bytes.Clone(data), 0))
	require.ErrorIs(t, err, errBadIndex)
}

// FuzzDecodeIndex gives the decoder bodies with a right checksum, so that what
// is behind it is reached. Whatever it accepts must survive being written again.
func FuzzDecodeIndex(f *testing.F) {
	data := encodeIndex(f, indexID{1, 2, 3}, sampleShards())
	f.Add(data[len(indexMagic) : len(data)-sha256.Size])
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Add(append(make([]byte, 17), 1, 2, 'A', 'A', 3))
	f.Fuzz(func(t *testing.T, body []byte) {
		full := append([]byte(indexMagic), body...)
		sum := sha256.Sum256(full)
		id, shardFunc, shards, err := decodeIndex(append(full, sum[:]...))
		if err != nil {
			require.ErrorIs(t, err, errBadIndex)
			return
		}
		var buf bytes.Buffer
		e := newIndexEncoder(&buf, id, shardFunc, len(shards))
		for _, s := range shards {
			require.True(t, validShardName(s.name))
			e.shard(s)
		}
		require.NoError(t, e.close())
		id2, shardFunc2, again, err := decodeIndex(buf.Bytes())
		require.NoError(t, err)
		require.Equal(t, id, id2)
		require.Equal(t, shardFunc, shardFunc2)
		requireSameShards(t, shards, again)
	})
}

func TestDigestNames(t *testing.T) {
	key, _ := block(7)
	name := key.String()[1:]
	d, ok := digestOf(name)
	require.True(t, ok)
	require.Equal(t, name, d.name())
	for _, other := range []string{
		"", "CIQ", name[:54], name + "A", "CIR" + name[3:],
		name[:54] + "B",       // bits beyond the digest: another name, which is no other digest
		"BIQ" + name[3:],      // another hash function
		"CIQ1" + name[4:],     // not base32
		"AFKREI" + name[6:54], // a CIDv1
	} {
		_, ok := digestOf(other)
		require.False(t, ok, other)
	}
}
