package container

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnswers(t *testing.T) {
	var status int
	var body string
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	l := Listener{Address: strings.TrimPrefix(srv.URL, "http://"), Setting: "THE_ADDRESS"}
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")

	status = http.StatusOK
	require.NoError(t, l.Ready(t.Context()))
	require.NoError(t, l.Live(t.Context()))
	require.Equal(t, []string{"/readyz", "/livez"}, asked)

	status = http.StatusServiceUnavailable
	body = `{"ready":false,"checks":[{"name":"node","ok":true},{"name":"blockstore","ok":false,"detail":"bucket gone"},{"name":"gateway","ok":false,"detail":"not yet"}]}`
	require.EqualError(t, l.Ready(t.Context()), "not ready: blockstore: bucket gone; gateway: not yet")
	body = "sorry"
	require.EqualError(t, l.Ready(t.Context()), "not ready")

	status = http.StatusNotFound
	require.ErrorContains(t, l.Ready(t.Context()), "another program listens there; name the right address with THE_ADDRESS")

	srv.Close()
	require.ErrorContains(t, l.Live(t.Context()), "nothing answers at "+l.Address)
}

func TestLoopback(t *testing.T) {
	for listen, call := range map[string]string{
		":8099": "127.0.0.1:8099", "0.0.0.0:8099": "127.0.0.1:8099", "[::]:8099": "[::1]:8099", "10.0.0.1:8099": "10.0.0.1:8099", "localhost:1": "localhost:1", "x": "x",
	} {
		require.Equal(t, call, loopback(listen))
	}
}
