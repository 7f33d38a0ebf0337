package kubo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ipfs/go-cid"
	car "github.com/ipld/go-car/v2"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
)

func rawBlock(t *testing.T, n int) Block {
	data := []byte(fmt.Sprintf("block %d", n))
	mh, err := multihash.Sum(data, multihash.SHA2_256, -1)
	require.NoError(t, err)
	return Block{Cid: cid.NewCidV1(cid.Raw, mh), Data: data}
}

// importer serves dag/import with a handler and returns a client of it.
func importer(t *testing.T, handle http.HandlerFunc) *Client {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v0/dag/import", handle)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	addr, err := manet.FromNetAddr(srv.Listener.Addr())
	require.NoError(t, err)
	c, err := New(addr)
	require.NoError(t, err)
	return c
}

func blocks(t *testing.T, n int) func() (Block, bool) {
	i := 0
	return func() (Block, bool) {
		if i == n {
			return Block{}, false
		}
		i++
		return rawBlock(t, i), true
	}
}

func TestImportIsACARFile(t *testing.T) {
	var got []string
	c := importer(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "false", r.URL.Query().Get("pin-roots"))
		form, err := r.MultipartReader()
		require.NoError(t, err)
		part, err := form.NextPart()
		require.NoError(t, err)
		file, err := car.NewBlockReader(part) // checks every block against its CID
		require.NoError(t, err)
		require.Equal(t, []cid.Cid{rawBlock(t, 1).Cid}, file.Roots)
		for {
			b, err := file.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			got = append(got, string(b.RawData()))
		}
		_, _ = fmt.Fprintf(w, `{"Root":null}`+"\n"+`{"Stats":{"BlockCount":%d}}`, len(got))
	})
	n, err := c.Import(context.Background(), blocks(t, 3))
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, []string{"block 1", "block 2", "block 3"}, got)
}

func TestNothingToImport(t *testing.T) {
	c := importer(t, func(http.ResponseWriter, *http.Request) { t.Error("asked for nothing") })
	n, err := c.Import(context.Background(), blocks(t, 0))
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestImportsThatFail(t *testing.T) {
	for want, handle := range map[string]http.HandlerFunc{
		"500 Internal Server Error: disk full": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "disk full", http.StatusInternalServerError)
		},
		"it took 2 of 3": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, `{"Stats":{"BlockCount":2}}`)
		},
		"without saying how many": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
		},
		"late failure": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Trailer", "X-Stream-Error")
			_, _ = io.WriteString(w, `{"Stats":{"BlockCount":3}}`)
			w.Header().Set("X-Stream-Error", "late failure")
		},
	} {
		c := importer(t, handle)
		_, err := c.Import(context.Background(), blocks(t, 3))
		require.ErrorContains(t, err, want)
	}
}

func TestAnImportEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	c := importer(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		_, _ = io.Copy(io.Discard, r.Body) // until the client hangs up
	})
	_, err := c.Import(ctx, func() (Block, bool) { return rawBlock(t, 1), ctx.Err() == nil })
	require.ErrorIs(t, err, context.Canceled)
}
