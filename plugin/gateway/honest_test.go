package gateway

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func serve(t *testing.T, h http.HandlerFunc) func(method string) (*http.Response, string, error) {
	t.Helper()
	s := httptest.NewServer(honest(h))
	t.Cleanup(s.Close)
	return func(method string) (*http.Response, string, error) {
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/ipfs/x", nil)
		require.NoError(t, err)
		resp, err := s.Client().Do(req)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, resp.Body.Close())
		return resp, string(b), err
	}
}

func TestAnAnswerPasses(t *testing.T) {
	ask := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", "e")
		_, _ = io.Copy(w, strings.NewReader("hello "))
		w.(http.Flusher).Flush()
		_, _ = fmt.Fprint(w, "world")
	})
	resp, body, err := ask(http.MethodGet)
	require.NoError(t, err)
	require.Equal(t, "hello world", body)
	require.Equal(t, "e", resp.Header.Get("Etag"))
	require.Len(t, resp.Header.Get("X-Request-Id"), 16)
}

func TestAnErrorOfTheClientPasses(t *testing.T) {
	ask := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no such link", http.StatusNotFound) })
	resp, body, err := ask(http.MethodGet)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	require.Equal(t, "no such link\n", body)
}

func TestAnErrorOfTheNodeSaysWhatThePublicCanUse(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504} {
		ask := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", "e")
			w.Header().Set("Cache-Control", "public, max-age=29030400, immutable")
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, "bucket my-secret-bucket: ", strings.Repeat("x", 10<<10))
		})
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			resp, body, err := ask(method)
			require.NoError(t, err)
			require.Equal(t, status, resp.StatusCode)
			require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
			require.Empty(t, resp.Header.Get("Etag"))
			require.Equal(t, "3", resp.Header.Get("Retry-After"))
			require.NotContains(t, body, "secret")
			if method == http.MethodGet {
				require.Contains(t, body, resp.Header.Get("X-Request-Id"))
			}
		}
	}
}

func TestAnAnswerThatIsNotWholeBreaksOff(t *testing.T) {
	ask := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.ipld.car; version=1; order=dfs; dups=n")
		_, _ = fmt.Fprint(w, "half")
		w.(http.Flusher).Flush()
		_, _ = fmt.Fprint(w, carBroken)
	})
	_, body, err := ask(http.MethodGet)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, "half", body)
}

func TestATARThatIsNotWholeBreaksOff(t *testing.T) {
	var file bytes.Buffer
	w := tar.NewWriter(&file)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "f", Size: 2000, Mode: 0o600}))
	_, err := w.Write(make([]byte, 2000))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	for name, c := range map[string]struct {
		body  []byte
		whole bool
	}{
		"whole":                   {file.Bytes(), true},
		"an error in the middle":  {append(bytes.Clone(file.Bytes()[:512]), "failed to fetch all nodes"...), false},
		"an error of 512 bytes":   {append(bytes.Clone(file.Bytes()[:512]), strings.Repeat("x", 512)...), false},
		"without its end":         {file.Bytes()[:512], false},
		"an error behind the end": {append(bytes.Clone(file.Bytes()), "error"...), false},
	} {
		ask := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-tar")
			for piece := range slices.Chunk(c.body, 300) {
				_, _ = w.Write(piece)
			}
			w.(http.Flusher).Flush()
		})
		_, body, err := ask(http.MethodGet)
		require.Equal(t, c.whole, err == nil, "%s: %v", name, err)
		require.Equal(t, string(c.body), body, name)
		_, _, err = ask(http.MethodHead)
		require.NoError(t, err)
	}
}

func TestAFileMayHaveTheSameText(t *testing.T) {
	ask := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, carBroken) })
	_, body, err := ask(http.MethodGet)
	require.NoError(t, err)
	require.Equal(t, carBroken, body)
}

func TestTheGatewayMayTakeTheConnection(t *testing.T) {
	ask := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_, _ = fmt.Fprint(w, "some")
		w.(http.Flusher).Flush()
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	_, body, err := ask(http.MethodGet)
	require.Error(t, err)
	require.Equal(t, "some", body)
}
