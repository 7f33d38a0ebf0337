package node

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/local/localca"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
)

// A peer that learns of a node from a router fetches its blocks over HTTPS, where a CDN can be in between, and not by
// bitswap: all of 32 MiB but a few. What stands in for the router answers as delegated routers do.
func TestPeersFetchFromTheGateway(t *testing.T) {
	front := ports.Address(t)
	_, port, err := net.SplitHostPort(front)
	require.NoError(t, err)
	from := newNode(t, "IPFS_GATEWAY_URL=https://127.0.0.1:"+port, "IPFS_CONFIG_Gateway_NoFetch=true")
	from.run("init", "--profile", "test")
	d := from.daemon()
	content := make([]byte, 32<<20)
	_, err = rand.Read(content)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "content")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	cid := d.run("add", "-Q", "--cid-version=1", file)

	var id struct {
		ID        string
		Addresses []string
	}
	require.NoError(t, json.Unmarshal([]byte(d.run("id")), &id))
	announced := "/ip4/127.0.0.1/tcp/" + port + "/tls/http"
	var addresses []string
	for _, a := range id.Addresses {
		addresses = append(addresses, strings.TrimSuffix(a, "/p2p/"+id.ID))
	}
	require.Contains(t, addresses, announced)

	overHTTPS := tlsFront(t, front, from.gateway())
	router := httpRouter(t, id.ID, addresses)
	peer := newNode(t, "IPFS_HTTP_ROUTERS="+router, "SSL_CERT_FILE="+overHTTPS.ca)
	peer.run("init", "--profile", "test")
	p := peer.daemon()
	got := p.run("cat", cid)
	require.True(t, bytes.Equal(bytes.TrimSpace(content), []byte(got)), "the content")

	var stat struct{ DataReceived uint64 }
	require.NoError(t, json.Unmarshal([]byte(p.run("bitswap", "stat", "--enc=json")), &stat))
	t.Logf("%d bytes over HTTPS; bitswap says that it received %d", overHTTPS.bytes.Load(), stat.DataReceived)
	require.GreaterOrEqual(t, overHTTPS.bytes.Load(), int64(len(content))*95/100)
}

// gateway is the URL of the node's own gateway.
func (n *node) gateway() string {
	text, err := os.ReadFile(filepath.Join(n.dir, "gateway"))
	require.NoError(n.t, err)
	return strings.TrimSpace(string(text))
}

type front struct {
	ca    string // file of the authority to trust
	bytes atomic.Int64
}

// tlsFront stands in for the CDN: HTTP/2 over TLS, with a certificate for the address.
func tlsFront(t *testing.T, address, to string) *front {
	dir := t.TempDir()
	require.NoError(t, localca.Ensure(dir, []string{"127.0.0.1"}, 0o600, time.Now()))
	f := &front{ca: filepath.Join(dir, localca.CAFile)}
	target, err := url.Parse(to)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		r.Body = &counted{r.Body, &f.bytes}
		return nil
	}
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	s := &http.Server{Handler: proxy}
	go s.ServeTLS(l, filepath.Join(dir, localca.CertFile), filepath.Join(dir, localca.KeyFile))
	t.Cleanup(func() { s.Close() })
	return f
}

type counted struct {
	io.ReadCloser
	bytes *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// httpRouter says of every CID that one peer has it: https://specs.ipfs.tech/routing/http-routing-v1/
func httpRouter(t *testing.T, id string, addresses []string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /routing/v1/providers/{cid}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"Providers": []any{map[string]any{
			"Schema": "peer", "ID": id, "Addrs": addresses, "Protocols": []string{"transport-bitswap", "transport-ipfs-gateway-http"},
		}}})
	})
	s := &http.Server{Handler: mux}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String()
}
