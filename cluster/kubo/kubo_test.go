package kubo

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
)

// node answers like kubo's RPC and records what it was asked.
func node(t *testing.T, l net.Listener) (c *Client, asked *[]string) {
	asked = &[]string{}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Method+" "+r.URL.String())
		if r.URL.Path == "/api/v0/version" {
			_, _ = w.Write([]byte(`{"Version":"0.42.0"}`))
			return
		}
		if r.URL.Query().Get("arg") == "/ip4/9.9.9.9/tcp/1" {
			http.Error(w, "no peer ID", http.StatusInternalServerError)
		}
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	addr, err := manet.FromNetAddr(l.Addr())
	require.NoError(t, err)
	c, err = New(addr)
	require.NoError(t, err)
	return c, asked
}

func TestVersionAndPeer(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "api"))
	require.NoError(t, err)
	for _, l := range []net.Listener{tcp, unix} {
		c, asked := node(t, l)
		v, connected, err := c.Version(context.Background())
		require.NoError(t, err)
		require.Equal(t, "0.42.0", v)
		require.True(t, connected, "there was no connection")
		require.NoError(t, c.Peer(context.Background(), []ma.Multiaddr{ma.StringCast("/ip4/1.2.3.4/tcp/4001"), ma.StringCast("/dns4/h/tcp/4001")}))
		require.ErrorContains(t, c.Peer(context.Background(), []ma.Multiaddr{ma.StringCast("/ip4/9.9.9.9/tcp/1")}), "no peer ID")
		require.Equal(t, []string{
			"POST /api/v0/version",
			"POST /api/v0/swarm/peering/add?arg=%2Fip4%2F1.2.3.4%2Ftcp%2F4001&arg=%2Fdns4%2Fh%2Ftcp%2F4001",
			"POST /api/v0/swarm/peering/add?arg=%2Fip4%2F9.9.9.9%2Ftcp%2F1",
		}, *asked)
	}
}

func TestNobodyThere(t *testing.T) {
	closed := ports.Address(t)
	tcp, err := net.ResolveTCPAddr("tcp", closed)
	require.NoError(t, err)
	addr, err := manet.FromNetAddr(tcp)
	require.NoError(t, err)
	c, err := New(addr)
	require.NoError(t, err)
	_, _, err = c.Version(context.Background())
	require.ErrorContains(t, err, closed)
	require.ErrorContains(t, err, "refused")
}

func TestARestartShowsInTheConnection(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"Version":"1"}`)) }))
	t.Cleanup(srv.Close)
	addr, err := manet.FromNetAddr(srv.Listener.Addr())
	require.NoError(t, err)
	c, err := New(addr)
	require.NoError(t, err)
	for _, want := range []bool{true, false, false} {
		_, connected, err := c.Version(context.Background())
		require.NoError(t, err)
		require.Equal(t, want, connected)
	}
	srv.CloseClientConnections()
	require.Eventually(t, func() bool {
		_, connected, err := c.Version(context.Background())
		return err == nil && connected
	}, time.Minute, time.Millisecond)
}
