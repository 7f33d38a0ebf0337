package gc

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

func TestMain(m *testing.M) { s3test.Main(m) }

// stores are the arguments of init for each blockstore.
func stores(t *testing.T) map[string]func(t *testing.T) []string {
	return map[string]func(*testing.T) []string{
		"flatfs": func(*testing.T) []string { return []string{"--blockstore", "flatfs"} },
		"efs":    func(*testing.T) []string { return []string{"--blockstore", "efs"} },
		"s3": func(t *testing.T) []string {
			s := s3test.Start(t)
			return []string{"--blockstore", "s3", "--bucket", s.NewBucket(t), "--endpoint", s.URL, "--region", s3test.Region}
		},
	}
}

// fresh is a repo that talks to no one.
func fresh(t *testing.T, program string, store []string, env ...string) *testnode.Node {
	n := testnode.New(t, program, env...)
	n.Run(append([]string{"init", "--profile", "test"}, store...)...)
	n.Run("config", "--json", "Provide.Enabled", "false")
	n.Run("config", "Routing.Type", "none")
	return n
}

// client asks the RPC of a daemon.
type client struct {
	ctx context.Context
	url string
}

// answer is what a command said that has ended well.
func (c client) answer(path string, body io.Reader, contentType string, args ...string) ([]byte, error) {
	q := url.Values{}
	for i := 0; i < len(args); i += 2 {
		q.Add(args[i], args[i+1])
	}
	req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, c.url+"/api/v0/"+path+"?"+q.Encode(), body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return b, err
	}
	if resp.StatusCode != http.StatusOK {
		return b, fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	if e := resp.Trailer.Get("X-Stream-Error"); e != "" {
		return b, errors.New(e)
	}
	return b, nil
}

func (c client) call(path string, args ...string) ([]byte, error) {
	return c.answer(path, nil, "", args...)
}

// upload sends files; between two pieces of one it calls between, which may be nil.
func (c client) upload(path string, pieces [][]byte, between func(), args ...string) ([]byte, error) {
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	go func() {
		part, err := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {`form-data; name="file"; filename="f"`}, "Content-Type": {"application/octet-stream"},
		})
		for i, p := range pieces {
			if i > 0 && between != nil {
				between()
			}
			if err == nil {
				_, err = part.Write(p)
			}
		}
		if err == nil {
			err = form.Close()
		}
		w.CloseWithError(err)
	}()
	b, err := c.answer(path, r, form.FormDataContentType(), args...)
	_ = r.CloseWithError(io.ErrClosedPipe)
	return b, err
}

// file is content, and its DAG: leaves of 4 KiB below one node.
type file struct {
	root   *merkledag.ProtoNode
	leaves []*merkledag.RawNode
	data   []byte
}

const leafSize = 4096

// newFile has some leaves of its own and some that others have too.
func newFile(t require.TestingT, r *rand.Rand) file {
	var f file
	fs := unixfs.NewFSNode(unixfs.TFile)
	f.root = new(merkledag.ProtoNode)
	for range 2 + r.IntN(12) {
		leaf := make([]byte, leafSize)
		seed := r.Uint64()
		if r.IntN(3) == 0 {
			seed = uint64(r.IntN(50))
		}
		fill(leaf, seed)
		n := merkledag.NewRawNode(leaf)
		f.leaves = append(f.leaves, n)
		f.data = append(f.data, leaf...)
		fs.AddBlockSize(leafSize)
		require.NoError(t, f.root.AddNodeLink("", n))
	}
	b, err := fs.GetBytes()
	require.NoError(t, err)
	f.root.SetData(b)
	require.NoError(t, f.root.SetCidBuilder(merkledag.V1CidPrefix()))
	return f
}

func fill(b []byte, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 99))
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
}

// car is the file as CARv1, in pieces.
func (f file) car() [][]byte {
	section := func(parts ...[]byte) []byte {
		n := 0
		for _, p := range parts {
			n += len(p)
		}
		out := binary.AppendUvarint(nil, uint64(n))
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	root := f.root.Cid().Bytes()
	// DAG-CBOR: {"roots": [link], "version": 1}
	head := append([]byte("\xa2\x65roots\x81\xd8\x2a\x58"), byte(len(root)+1), 0)
	head = append(append(head, root...), []byte("\x67version\x01")...)
	pieces := [][]byte{section(head)}
	for _, l := range f.leaves {
		pieces = append(pieces, section(l.Cid().Bytes(), l.RawData()))
	}
	return append(pieces, section(root, f.root.RawData()))
}

// halves are the content in two pieces.
func (f file) halves() [][]byte { return [][]byte{f.data[:len(f.data)/2], f.data[len(f.data)/2:]} }

// keys are the multihashes of what refs, or refs local, has listed.
func keys(t *testing.T, b []byte) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(b))
	for dec.More() {
		var e struct{ Ref, Err string }
		require.NoError(t, dec.Decode(&e))
		require.Empty(t, e.Err)
		c, err := cid.Decode(strings.TrimSpace(e.Ref))
		require.NoError(t, err)
		all[string(c.Hash())] = true
	}
	return all
}

// stay are the keys of what pins and MFS need.
func stay(t *testing.T, c client) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	b, err := c.call("pin/ls", "type", "all")
	require.NoError(t, err)
	var pinned struct{ Keys map[string]any }
	require.NoError(t, json.Unmarshal(b, &pinned))
	for k := range pinned.Keys {
		k, err := cid.Decode(k)
		require.NoError(t, err)
		all[string(k.Hash())] = true
	}
	b, err = c.call("files/stat", "arg", "/")
	require.NoError(t, err)
	var root struct{ Hash string }
	require.NoError(t, json.Unmarshal(b, &root))
	k, err := cid.Decode(root.Hash)
	require.NoError(t, err)
	all[string(k.Hash())] = true
	b, err = c.call("refs", "arg", root.Hash, "recursive", "true", "unique", "true")
	require.NoError(t, err)
	for k := range keys(t, b) {
		all[k] = true
	}
	return all
}
