package links

import (
	"bytes"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
)

func sum(t testing.TB, codec, hash uint64, data string) cid.Cid {
	t.Helper()
	h, err := mh.Sum([]byte(data), hash, -1)
	require.NoError(t, err)
	if codec == dagPB && hash == mh.SHA2_256 {
		return cid.NewCidV0(h)
	}
	return cid.NewCidV1(codec, h)
}

// pb is a node as kubo makes it.
func pb(t testing.TB, data []byte, to ...cid.Cid) []byte {
	t.Helper()
	n := merkledag.NodeWithData(data)
	for _, c := range to {
		require.NoError(t, n.AddRawLink("name", &ipld.Link{Cid: c, Size: 1 << 30}))
	}
	return n.RawData()
}

func cbor(t testing.TB, to ...cid.Cid) []byte {
	t.Helper()
	node, err := qp.BuildMap(basicnode.Prototype.Any, -1, func(ma datamodel.MapAssembler) {
		qp.MapEntry(ma, "text", qp.String("some text"))
		qp.MapEntry(ma, "numbers", qp.List(-1, func(la datamodel.ListAssembler) {
			for _, n := range []int64{0, -1, 23, 24, 1 << 8, 1 << 16, 1 << 40} {
				qp.ListEntry(la, qp.Int(n))
			}
			qp.ListEntry(la, qp.Float(1.5))
			qp.ListEntry(la, qp.Bool(true))
			qp.ListEntry(la, qp.Null())
			qp.ListEntry(la, qp.Bytes(make([]byte, 300)))
		}))
		qp.MapEntry(ma, "to", qp.List(-1, func(la datamodel.ListAssembler) {
			for _, c := range to {
				qp.ListEntry(la, qp.Link(cidlink.Link{Cid: c}))
			}
		}))
	})
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, dagcbor.Encode(node, &out))
	return out.Bytes()
}

func TestLinksInTheirOrder(t *testing.T) {
	to := []cid.Cid{
		sum(t, cid.Raw, mh.SHA2_256, "a"), sum(t, dagPB, mh.SHA2_256, "b"), sum(t, dagCBOR, mh.BLAKE2B_MIN+31, "c"), sum(t, cid.Raw, mh.SHA2_256, "a"),
	}
	identity := sum(t, cid.Raw, mh.IDENTITY, "itself")
	file := unixfs.FilePBData([]byte("of a file"), 9)
	require.Equal(t, to, Of(pb(t, file, to...), dagPB))
	require.Equal(t, to, Of(pb(t, nil, append(to, identity)...), Unknown))
	require.Equal(t, to, Of(cbor(t, append(to, identity)...), dagCBOR))
	require.Equal(t, to, Of(cbor(t, to...), Unknown))
	require.Empty(t, Of(pb(t, file, to...), dagCBOR))
	require.Empty(t, Of(pb(t, file, to...), cid.Raw))
}

func TestWhatHasNoLinks(t *testing.T) {
	whole := pb(t, []byte("data"), sum(t, cid.Raw, mh.SHA2_256, "a"))
	item := cbor(t, sum(t, cid.Raw, mh.SHA2_256, "a"))
	for name, data := range map[string][]byte{
		"nothing": nil, "text": []byte("a text that begins like any other"), "zeros": make([]byte, 1000), "a leaf": pb(t, []byte("data")),
		"cut short": whole[:len(whole)-1], "more behind it": append(bytes.Clone(whole), 0), "cbor cut short": item[:len(item)-1], "more behind cbor": append(bytes.Clone(item), 0),
		"a list longer than memory": {0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "nested for ever": bytes.Repeat([]byte{0x81}, 1<<20),
		"a link without a hash": {0x12, 2, 0x18, 1},
	} {
		require.Empty(t, Of(data, Unknown), name)
	}
}

func FuzzOf(f *testing.F) {
	a := sum(f, cid.Raw, mh.SHA2_256, "a")
	f.Add(pb(f, []byte("data"), a))
	f.Add(cbor(f, a, a))
	f.Fuzz(func(t *testing.T, data []byte) {
		if node, err := merkledag.DecodeProtobuf(data); err == nil && bytes.Equal(node.RawData(), data) { // canonical
			var want []cid.Cid
			for _, l := range node.Links() {
				if l.Cid.Prefix().MhType != mh.IDENTITY {
					want = append(want, l.Cid)
				}
			}
			if got := Of(data, dagPB); len(got) != len(want) {
				t.Fatalf("%d links, boxo says %d", len(got), len(want))
			}
		}
		for _, c := range Of(data, Unknown) {
			if !c.Defined() {
				t.Fatal("a link to nothing")
			}
		}
	})
}
