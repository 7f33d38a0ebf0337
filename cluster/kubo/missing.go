package kubo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"

	"github.com/ipfs/boxo/ipld/merkledag"
	blockformat "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	ipldlegacy "github.com/ipfs/go-ipld-legacy"
	dagpb "github.com/ipld/go-codec-dagpb"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/codec/dagjson"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/multicodec"
	"github.com/multiformats/go-multihash"
)

// decoder finds links in the codecs that link.
var decoder = func() *ipldlegacy.Decoder {
	var known multicodec.Registry
	known.RegisterDecoder(cid.DagProtobuf, dagpb.Decode)
	known.RegisterDecoder(cid.DagCBOR, dagcbor.Decode)
	known.RegisterDecoder(cid.DagJSON, dagjson.Decode)
	d := ipldlegacy.NewDecoderWithLS(cidlink.LinkSystemUsingMulticodecRegistry(known))
	d.RegisterCodec(cid.DagProtobuf, dagpb.Type.PBNode, merkledag.ProtoNodeConverter)
	return d
}()

// linked says whether blocks of a CID's codec can have links that [Links] finds.
func linked(id cid.Cid) bool {
	switch id.Prefix().Codec {
	case cid.DagProtobuf, cid.DagCBOR, cid.DagJSON:
		return true
	}
	return false
}

// Inline returns the data of a CID that holds its block itself.
func Inline(id cid.Cid) (data []byte, ok bool) {
	if id.Prefix().MhType != multihash.IDENTITY {
		return nil, false
	}
	mh, err := multihash.Decode(id.Hash())
	if err != nil {
		return nil, false
	}
	return mh.Digest, true
}

// Links returns the links of a block, those of inline CIDs instead of those CIDs
// themselves. A codec that this program does not know has none.
func Links(b Block) ([]cid.Cid, error) {
	if !linked(b.Cid) {
		return nil, nil
	}
	raw, err := blockformat.NewBlockWithCid(b.Data, b.Cid)
	if err != nil {
		return nil, err
	}
	node, err := decoder.DecodeNode(context.Background(), raw)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", b.Cid, err)
	}
	return LinksOf(node)
}

// Node decodes a block. One of a codec that this program does not know has no links.
func Node(b blockformat.Block) (format.Node, error) {
	if linked(b.Cid()) {
		node, err := decoder.DecodeNode(context.Background(), b)
		if err != nil {
			return nil, fmt.Errorf("decode %s: %w", b.Cid(), err)
		}
		return node, nil
	}
	raw, err := blockformat.NewBlockWithCid(b.RawData(), cid.NewCidV1(cid.Raw, b.Cid().Hash()))
	if err != nil {
		return nil, err
	}
	node, err := merkledag.DecodeRawBlock(raw)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", b.Cid(), err)
	}
	return opaque{node, b.Cid()}, nil
}

// opaque is a block without links.
type opaque struct {
	format.Node
	id cid.Cid
}

func (o opaque) Cid() cid.Cid { return o.id }

// LinksOf is [Links] of a block that is decoded.
func LinksOf(node format.Node) ([]cid.Cid, error) {
	var out []cid.Cid
	for _, l := range node.Links() {
		data, inline := Inline(l.Cid)
		if !inline {
			out = append(out, l.Cid)
			continue
		}
		below, err := Links(Block{l.Cid, data})
		if err != nil {
			return nil, err
		}
		out = append(out, below...)
	}
	return out, nil
}

// notLocal is what a node says about a block that it does not have and may not fetch.
const notLocal = "could not find"

// maxBlock is the largest block that the walk reads, in bytes: an import may bring
// larger ones than the 2 MiB that nodes exchange.
const maxBlock = 64 << 20

// Has reports whether a block is on the node. It reads nothing of it where the node's
// store knows that without.
func (c *Client) Has(ctx context.Context, id cid.Cid) (bool, error) {
	err := c.call(ctx, "block/stat", url.Values{"arg": {id.String()}, "offline": {"true"}}, nil)
	if err != nil && strings.Contains(err.Error(), notLocal) {
		return false, nil
	}
	return err == nil, err
}

// block returns a block that is on the node; ok is false if it is not there.
func (c *Client) block(ctx context.Context, id cid.Cid) (b Block, ok bool, err error) {
	res, err := post(ctx, c.http, "block/get", url.Values{"arg": {id.String()}, "offline": {"true"}})
	if err == nil {
		defer res.Body.Close()
		var data bytes.Buffer
		if _, err = io.Copy(&data, io.LimitReader(res.Body, maxBlock)); err == nil {
			if said := res.Trailer.Get("X-Stream-Error"); said != "" {
				err = errors.New(said)
			} else {
				return Block{id, data.Bytes()}, true, nil
			}
		}
	}
	if strings.Contains(err.Error(), notLocal) {
		return Block{}, false, nil
	}
	return Block{}, false, fmt.Errorf("ask the IPFS node at %s for block %s: %w", c.address, id, err)
}

// walkers is how many blocks a walk asks for at a time: as many as the store of a
// node reads at once for a few clients.
const walkers = 16

// Walk is what [Client.Missing] found.
type Walk struct {
	Missing []cid.Cid // in the order of the DAG, no more than were asked for
	// Whole says that the walk went through everything and nothing is missing. If it is
	// false and nothing is missing, the walk was cut short by its limit.
	Whole  bool
	Blocks int // that were looked at
}

// Missing looks for blocks below some CIDs that the node does not have, and stops
// after the first few, or after limit blocks. Nothing is fetched. Blocks that can
// have links are read, of all others only their presence is asked.
func (c *Client) Missing(ctx context.Context, roots []cid.Cid, few, limit int) (Walk, error) {
	var w Walk
	seen := cid.NewSet()
	next := roots
	var queue [][]cid.Cid // of siblings, the deepest last
	for {
		for len(next) == 0 {
			if len(queue) == 0 {
				w.Whole = len(w.Missing) == 0
				return w, nil
			}
			next, queue = queue[len(queue)-1], queue[:len(queue)-1]
		}
		var group []cid.Cid
		for len(next) > 0 && len(group) < walkers {
			if seen.Visit(next[0]) {
				group = append(group, next[0])
			}
			next = next[1:]
		}
		links, absent, err := c.look(ctx, group)
		if err != nil {
			return w, err
		}
		w.Blocks += len(group)
		queue = append(queue, next)
		next = links
		for _, id := range absent {
			w.Missing = append(w.Missing, id)
			if len(w.Missing) == few {
				return w, nil
			}
		}
		if w.Blocks >= limit {
			return w, nil
		}
	}
}

// look asks for some blocks at once and returns their links, and which of them are
// not there.
func (c *Client) look(ctx context.Context, group []cid.Cid) (links, absent []cid.Cid, err error) {
	type found struct {
		links []cid.Cid
		has   bool
		err   error
	}
	all := make([]found, len(group))
	var asking sync.WaitGroup
	for i, id := range group {
		asking.Go(func() {
			f := &all[i]
			if data, inline := Inline(id); inline {
				f.has = true
				f.links, f.err = Links(Block{id, data})
				return
			}
			if !linked(id) {
				f.has, f.err = c.Has(ctx, id)
				return
			}
			var b Block
			if b, f.has, f.err = c.block(ctx, id); f.has && f.err == nil {
				f.links, f.err = Links(b)
			}
		})
	}
	asking.Wait()
	for i, f := range all {
		switch {
		case f.err != nil:
			return nil, nil, f.err
		case !f.has:
			absent = append(absent, group[i])
		}
		links = append(links, f.links...)
	}
	return links, absent, nil
}
