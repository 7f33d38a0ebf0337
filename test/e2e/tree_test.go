package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// file is one file of a tree: its path below the root, and where its content is.
type file struct {
	path   string
	source string // a path on disk; if empty, text
	text   string
}

func (f file) content() ([]byte, error) {
	if f.source == "" {
		return []byte(f.text), nil
	}
	return os.ReadFile(f.source)
}

// goSources is a real tree: Go's own sources, at least 3,000 files, or about a
// hundred with -short.
func goSources(t *testing.T) []file {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	require.NoError(t, err)
	src := filepath.Join(strings.TrimSpace(string(out)), "src")
	parts, least, most := []string{"net", "cmd"}, 3000, 3100
	if testing.Short() && !gate.Full() {
		parts, least, most = []string{"net/http"}, 50, 200
	}
	var files []file
	for _, part := range parts {
		err := filepath.WalkDir(filepath.Join(src, part), func(at string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || len(files) == most {
				return err
			}
			rel, err := filepath.Rel(src, at)
			files = append(files, file{path: filepath.ToSlash(rel), source: at})
			return err
		})
		require.NoError(t, err)
	}
	require.GreaterOrEqual(t, len(files), least)
	return files
}

// add uploads files as one folder through the API at base, as a streamed
// multipart form. The add is acknowledged if there is no error.
func add(base, user, password, name string, files []file) (root string, err error) {
	body, w := io.Pipe()
	form := multipart.NewWriter(w)
	go func() {
		w.CloseWithError(errors.Join(writeForm(form, name, files), form.Close()))
	}()
	defer body.Close()
	query := url.Values{"name": {name}, "cid-version": {"1"}, "stream-channels": {"true"}}
	req, err := http.NewRequest(http.MethodPost, base+"/add?"+query.Encode(), body)
	if err != nil {
		return "", err
	}
	req.SetBasicAuth(user, password)
	req.Header.Set("Content-Type", form.FormDataContentType())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(res.Body)
		return "", fmt.Errorf("add: %s: %s", res.Status, b)
	}
	entries := map[string]string{}
	for d := json.NewDecoder(res.Body); ; {
		var a struct{ Name, CID string }
		if err := d.Decode(&a); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", fmt.Errorf("add: the answer broke off: %w", err)
		}
		entries[a.Name] = a.CID
	}
	if said := res.Trailer.Get("X-Stream-Error"); said != "" {
		return "", fmt.Errorf("add: %s", said)
	}
	for _, f := range files {
		if entries[name+"/"+f.path] == "" {
			return "", fmt.Errorf("add: the answer does not mention %s", f.path)
		}
	}
	if entries[name] == "" {
		return "", fmt.Errorf("add: the answer does not mention the root")
	}
	return entries[name], nil
}

func writeForm(form *multipart.Writer, name string, files []file) error {
	for _, f := range files {
		part, err := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name="file"; filename="%s"`, url.QueryEscape(name+"/"+f.path))},
			"Content-Type":        {"application/octet-stream"},
		})
		if err != nil {
			return err
		}
		b, err := f.content()
		if err != nil {
			return err
		}
		if _, err := part.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// escaped is a path as it stands in a URL.
func escaped(path string) string {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// sameFile fetches one file through the gateway at base and compares it.
func sameFile(base, root string, f file) error {
	got, err := call(http.MethodGet, base+"/ipfs/"+root+"/"+escaped(f.path), "", "")
	if err != nil {
		return err
	}
	want, err := f.content()
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s at %s: %d bytes that are not the %d that were added", f.path, base, len(got), len(want))
	}
	return nil
}

// largest returns the n largest files on disk.
func largest(t *testing.T, files []file, n int) []file {
	t.Helper()
	size := func(f file) int64 {
		info, err := os.Stat(f.source)
		require.NoError(t, err)
		return info.Size()
	}
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b file) int { return int(size(b) - size(a)) })
	return sorted[:n]
}
