package links_test

import (
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/links"
)

// node makes what kubo makes: a UnixFS node over raw leaves and another node.
func node(t testing.TB, fs *unixfs.FSNode, children ...ipld.Node) *merkledag.ProtoNode {
	t.Helper()
	data, err := fs.GetBytes()
	require.NoError(t, err)
	n := merkledag.NodeWithData(data)
	for _, c := range children {
		require.NoError(t, n.AddNodeLink("name", c))
	}
	return n
}

func TestParse(t *testing.T) {
	leaf := merkledag.NewRawNode([]byte("leaf"))
	v0 := node(t, unixfs.NewFSNode(unixfs.TFile))
	v1 := node(t, unixfs.NewFSNode(unixfs.TFile))
	require.NoError(t, v1.SetCidBuilder(merkledag.V1CidPrefix()))
	for name, c := range map[string]struct {
		block []byte
		kind  links.Kind
	}{
		"file":      {node(t, unixfs.NewFSNode(unixfs.TFile), leaf, v0, v1).RawData(), links.File},
		"directory": {node(t, unixfs.NewFSNode(unixfs.TDirectory), leaf, v0, v1).RawData(), links.Directory},
		"shard":     {node(t, unixfs.NewFSNode(unixfs.THAMTShard), leaf, v0, v1).RawData(), links.Directory},
		"no data":   {withLinks(t, merkledag.NodeWithData(nil), leaf, v0, v1), links.Other},
		"strange":   {withLinks(t, merkledag.NodeWithData([]byte("strange")), leaf, v0, v1), links.Other},
	} {
		t.Run(name, func(t *testing.T) {
			n, ok := links.Parse(c.block)
			require.True(t, ok)
			require.Equal(t, c.kind, n.Kind)
			var got []links.Link
			for _, child := range []ipld.Node{leaf, v0, v1} {
				size, err := child.Size()
				require.NoError(t, err)
				got = append(got, links.Link{Cid: child.Cid(), Size: size})
			}
			require.Equal(t, got, n.Links)
			require.True(t, links.Possible(c.block[0]))
			for i := range c.block {
				if short, ok := links.Parse(c.block[:i]); ok { // cut between two fields
					require.Equal(t, got[:len(short.Links)], short.Links)
				}
			}
		})
	}
}

func withLinks(t testing.TB, n *merkledag.ProtoNode, children ...ipld.Node) []byte {
	t.Helper()
	for _, c := range children {
		require.NoError(t, n.AddNodeLink("", c))
	}
	return n.RawData()
}

// What has no links is no node for this package, whatever it is.
func TestNoNode(t *testing.T) {
	for name, block := range map[string][]byte{
		"nothing":         nil,
		"text":            []byte("some text"),
		"file, no links":  node(t, unixfs.NewFSNode(unixfs.TFile)).RawData(),
		"empty directory": node(t, unixfs.NewFSNode(unixfs.TDirectory)).RawData(),
		"trailing byte":   append(node(t, unixfs.NewFSNode(unixfs.TFile), merkledag.NewRawNode([]byte("x"))).RawData(), 0),
		"link to no CID":  {0x12, 0x04, 0x0a, 0x02, 'h', 'i'},
		"link cut short":  {0x12, 0x40, 0x0a},
	} {
		t.Run(name, func(t *testing.T) {
			_, ok := links.Parse(block)
			require.False(t, ok)
		})
	}
}

func FuzzParse(f *testing.F) {
	leaf := merkledag.NewRawNode([]byte("leaf"))
	f.Add(node(f, unixfs.NewFSNode(unixfs.TFile), leaf).RawData())
	f.Add(node(f, unixfs.NewFSNode(unixfs.THAMTShard), leaf, leaf).RawData())
	f.Add([]byte{0x12, 0x04, 0x0a, 0x02, 'h', 'i'})
	f.Fuzz(func(t *testing.T, block []byte) {
		n, ok := links.Parse(block)
		if !ok {
			require.Empty(t, n.Links)
			return
		}
		// Whatever is taken for a node is one for the library, with the same links.
		want, err := merkledag.DecodeProtobuf(block)
		if err != nil {
			return // it is stricter, about the order of fields and doubles
		}
		require.Len(t, n.Links, len(want.Links()))
	})
}
