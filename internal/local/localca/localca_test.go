package localca

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var names = []string{"localhost", "*.localhost", "127.0.0.1", "::1"}

func content(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(b)
}

func ensure(t *testing.T, dir string, names []string, now time.Time) {
	t.Helper()
	require.NoError(t, Ensure(dir, names, 0o600, now))
}

func TestAClientThatTrustsTheAuthorityTrustsTheServer(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir, names, time.Now())
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile))
	require.NoError(t, err)
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.StartTLS()
	defer srv.Close()

	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM([]byte(content(t, dir, CAFile))))
	for _, name := range []string{"localhost", "127.0.0.1", "bafy.localhost"} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: name}}}
		res, err := client.Get(srv.URL)
		require.NoError(t, err, name)
		require.NoError(t, res.Body.Close())
	}
	other := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "example.com"}}}
	_, err = other.Get(srv.URL)
	require.ErrorContains(t, err, "example.com")
}

func TestWhatIsKeptAndWhatIsMadeAnew(t *testing.T) {
	now := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		do         func(t *testing.T, dir string)
		names      []string
		later      time.Duration
		ca, server bool // made anew
	}{
		"nothing happened":         {},
		"half of its life later":   {later: serverLife / 2},
		"the server's ends soon":   {later: serverLife - renewBefore + time.Minute, server: true},
		"the server's has ended":   {later: serverLife * 2, server: true},
		"the authority ends soon":  {later: caLife - renewBefore + time.Minute, ca: true, server: true},
		"another name":             {names: append([]string{"ipfs.test"}, names...), server: true},
		"a clock that was ahead":   {later: -2 * day, ca: true, server: true},
		"the server's key is lost": {do: remove(KeyFile), server: true},
		"half a certificate":       {do: cut(CertFile), server: true},
		"the authority is lost":    {do: remove(CAFile), ca: true, server: true},
		"its key is lost":          {do: remove(caKeyFile), ca: true, server: true},
		"its certificate is cut":   {do: cut(CAFile), ca: true, server: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "tls")
			ensure(t, dir, names, now)
			ca, server := content(t, dir, CAFile), content(t, dir, CertFile)
			if c.do != nil {
				c.do(t, dir)
			}
			if c.names == nil {
				c.names = names
			}
			ensure(t, dir, c.names, now.Add(c.later))
			require.Equal(t, c.ca, ca != content(t, dir, CAFile), "authority")
			require.Equal(t, c.server, server != content(t, dir, CertFile), "server")
			left, err := filepath.Glob(filepath.Join(dir, "*"))
			require.NoError(t, err)
			require.Len(t, left, 3)
			left, err = filepath.Glob(filepath.Join(dir, "server", "*"))
			require.NoError(t, err)
			require.Len(t, left, 2)
		})
	}
}

func remove(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, name))) }
}

func cut(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		b := content(t, dir, name)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(b[:len(b)/3]), 0o600))
	}
}

func TestModesOfKeys(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Ensure(dir, names, 0o444, time.Now()))
	for name, want := range map[string]os.FileMode{caKeyFile: 0o600, KeyFile: 0o444, CertFile: 0o644, CAFile: 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, want, info.Mode().Perm(), name)
	}
}
