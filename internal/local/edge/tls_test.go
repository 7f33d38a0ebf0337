package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/local/localca"
)

func TestFrontDoorsAreHTTPSAndTakeUpARenewedCertificate(t *testing.T) {
	dir := t.TempDir()
	start := time.Now()
	require.NoError(t, localca.Ensure(dir, []string{"localhost"}, 0o600, start))
	proto := make(chan string, 10)
	b := newBackend(t, "task-1", func(w http.ResponseWriter, r *http.Request) { proto <- r.Header.Get("X-Forwarded-Proto") })
	group := GroupConfig{Listen: "127.0.0.1:0", Targets: []TargetConfig{b.config()}}
	e, err := Listen(Config{Gateway: group, API: group, Health: "127.0.0.1:0", CheckMillis: 10,
		TLS: &TLSConfig{Certificate: filepath.Join(dir, localca.CertFile), Key: filepath.Join(dir, localca.KeyFile)}}, io.Discard)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- e.Serve(ctx) }()
	defer func() { cancel(); require.NoError(t, <-served) }()

	pem, err := os.ReadFile(filepath.Join(dir, localca.CAFile))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(pem))
	ask := func(listener int) (*http.Response, error) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}}
		return client.Get("https://" + e.listeners[listener].Addr().String())
	}
	serial := ""
	for listener := range 2 {
		require.Eventually(t, func() bool {
			res, err := ask(listener)
			if err != nil {
				return false
			}
			defer res.Body.Close()
			serial = res.TLS.PeerCertificates[0].SerialNumber.String()
			return res.StatusCode == http.StatusOK && res.ProtoMajor == 1
		}, patience, time.Millisecond)
		require.Equal(t, "https", <-proto)
	}

	// Half a renewal: the key is there, the certificate is not yet.
	key := filepath.Join(dir, localca.KeyFile)
	require.NoError(t, os.WriteFile(key, []byte("not yet"), 0o600))
	res, err := ask(0)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.NoError(t, localca.Ensure(dir, []string{"localhost"}, 0o600, start.Add(time.Second)))
	require.Eventually(t, func() bool {
		res, err := ask(0)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.TLS.PeerCertificates[0].SerialNumber.String() != serial
	}, patience, time.Millisecond)
}

func TestWithoutItsCertificateTheEdgeDoesNotStart(t *testing.T) {
	b := newBackend(t, "task-1", answer("ok"))
	group := GroupConfig{Listen: "127.0.0.1:0", Targets: []TargetConfig{b.config()}}
	_, err := Listen(Config{Gateway: group, API: group, Health: "127.0.0.1:0", TLS: &TLSConfig{Certificate: "absent.crt", Key: "absent.key"}}, io.Discard)
	require.ErrorContains(t, err, "absent.crt")
}
