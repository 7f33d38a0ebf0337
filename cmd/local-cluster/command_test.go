package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/local/topology"
)

// api is a cluster API that remembers what it was sent.
type api struct {
	parts  []string // "type name content"
	query  url.Values
	answer func(w http.ResponseWriter)
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if user, password, _ := r.BasicAuth(); user != "u" || password != "p" {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"code":401,"message":"Unauthorized"}`)
		return
	}
	a.query = r.URL.Query()
	if r.Method == http.MethodPost {
		form, err := r.MultipartReader()
		for err == nil {
			var part *multipart.Part
			if part, err = form.NextPart(); err != nil {
				break
			}
			content, _ := io.ReadAll(part)
			_, params, _ := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
			a.parts = append(a.parts, fmt.Sprintf("%s %s %s", part.Header.Get("Content-Type"), params["filename"], content))
		}
	}
	a.answer(w)
}

// run executes a command against an api as the running topology's.
func run(t *testing.T, a *api, tasks int, args ...string) (out string, err error) {
	t.Helper()
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	dir := t.TempDir()
	st := topology.Status{Description: topology.Description{API: s.URL, Gateway: "http://gateway", User: "u", Password: "p", Tasks: make([]topology.TaskDescription, tasks)}}
	b, err := json.Marshal(st)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "status.json"), b, 0o600))
	cmd := rootCommand(context.Background())
	var stdout bytes.Buffer
	cmd.SetOut(&stdout)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(append(args, "--dir", dir))
	err = cmd.ExecuteContext(t.Context())
	return stdout.String(), err
}

func tree(t *testing.T) string {
	root := filepath.Join(t.TempDir(), "a tree")
	for path, content := range map[string]string{
		"b/x+y.txt": "one", "b/ü.txt": "two", "a.txt": "three", ".hidden/z": "no", "b/.dot": "no", "empty/.keep": "no",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(root, path), []byte(content), 0o600))
	}
	require.NoError(t, os.Symlink("a.txt", filepath.Join(root, "link")))
	return root
}

func answerLines(lines ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { _, _ = io.WriteString(w, strings.Join(lines, "\n")) }
}

func TestAddSendsFoldersFilesAndLinks(t *testing.T) {
	a := &api{answer: answerLines(`{"name":"a tree/a.txt","cid":"c1"}`, `{"name":"a tree","cid":"root"}`)}
	out, err := run(t, a, 3, "add", "--quiet", tree(t))
	require.NoError(t, err)
	require.Equal(t, "root\n", out)
	require.Equal(t, []string{
		"application/x-directory a+tree ",
		"application/octet-stream a+tree%2Fa.txt three",
		"application/x-directory a+tree%2Fb ",
		"application/octet-stream a+tree%2Fb%2Fx%2By.txt one",
		"application/octet-stream a+tree%2Fb%2F%C3%BC.txt two",
		"application/x-directory a+tree%2Fempty ",
		"application/symlink a+tree%2Flink a.txt",
	}, a.parts)
	require.Equal(t, "a tree", a.query.Get("name"))
	require.Equal(t, "true", a.query.Get("stream-channels"))
}

func TestAddOutputs(t *testing.T) {
	lines := answerLines(`{"name":"f/a","cid":"c1","size":3}`, `{"name":"f","cid":"root","size":9}`)
	file := filepath.Join(tree(t), "a.txt")
	out, err := run(t, &api{answer: lines}, 3, "add", file)
	require.NoError(t, err)
	require.Equal(t, "root f\nhttp://gateway/ipfs/root\n", out)
	out, err = run(t, &api{answer: lines}, 3, "add", "--json", file)
	require.NoError(t, err)
	require.Equal(t, "{\"name\":\"f/a\",\"cid\":\"c1\",\"size\":3}\n{\"name\":\"f\",\"cid\":\"root\",\"size\":9}\n", out)
	a := &api{answer: lines}
	_, err = run(t, a, 3, "add", "--hidden", tree(t))
	require.NoError(t, err)
	require.Contains(t, a.parts, "application/octet-stream a+tree%2F.hidden%2Fz no")
}

func TestAddIsAcknowledgedOnlyWhenWhole(t *testing.T) {
	file := filepath.Join(tree(t), "a.txt")
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		says   string
	}{
		"error in the last line": {func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `{"name":"f","cid":"root"}`+"\n"+`{"error":"disk full","code":500}`+"\n")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "disk full"},
		"broken off": {func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `{"name":"f","cid":"root"}`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "broke off"},
		"empty": {answerLines(""), "added nothing"},
		"refused": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "{\"error\":\n\"no target is ready\"}")
		}, `503 Service Unavailable: {"error": "no target is ready"}`},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := run(t, &api{answer: c.answer}, 3, "add", "--quiet", file)
			require.ErrorContains(t, err, c.says)
			require.Empty(t, out)
		})
	}
}

func TestAddRefusesWhatItCannotRead(t *testing.T) {
	ok := answerLines(`{"name":"f","cid":"root"}`)
	_, err := run(t, &api{answer: ok}, 3, "add", filepath.Join(t.TempDir(), "absent"))
	require.ErrorContains(t, err, "absent")
	_, err = run(t, &api{answer: ok}, 3, "add")
	require.ErrorContains(t, err, "arg")
	cmd := rootCommand(context.Background())
	cmd.SetArgs([]string{"add", "--dir", t.TempDir(), "."})
	require.ErrorContains(t, cmd.ExecuteContext(t.Context()), "no local-cluster runs on")
}

func TestPinsFollowUntilAllPeersHaveSettled(t *testing.T) {
	const one = `{"cid":"c1","name":"n","peer_map":{"p1":{"peername":"task-1","status":"pinned"}}}`
	const two = `{"cid":"c1","name":"n","peer_map":{"p1":{"peername":"task-1","status":"pinned"},"p2":{"peername":"task-2","status":"pin_error","error":"no\nspace"}}}`
	const done = `{"cid":"c1","name":"n","peer_map":{"p1":{"peername":"task-1","status":"pinned"},"p2":{"peername":"task-2","status":"remote"}}}`
	asked := 0
	a := &api{answer: func(w http.ResponseWriter) {
		_, _ = io.WriteString(w, []string{one, two, two, done}[min(asked, 3)])
		asked++
	}}
	out, err := run(t, a, 2, "pins", "--watch")
	require.NoError(t, err)
	require.Equal(t, 4, asked)
	require.Equal(t, "c1  n  task-1 pinned\nc1  n  task-1 pinned, task-2 pin_error (no space)\nc1  n  task-1 pinned, task-2 remote\n", out)

	out, err = run(t, &api{answer: answerLines(one, strings.ReplaceAll(one, "c1", "c2"))}, 3, "pins", "--json")
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(out, "\n"))
	out, err = run(t, &api{answer: func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }}, 3, "pins")
	require.NoError(t, err)
	require.Empty(t, out)
	_, err = run(t, &api{answer: answerLines(one, `{"cid":`)}, 3, "pins")
	require.ErrorContains(t, err, "broke off")
}

// The three commands survive a shell, whatever the folder is called.
func TestGreetingCanBePasted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's mine")
	var out bytes.Buffer
	require.NoError(t, greet(&out, dir, topology.Description{Gateway: "http://g", API: "http://a", User: "u", Password: "p"}))
	require.FileExists(t, filepath.Join(dir, "example", "hello.txt"))
	for _, line := range strings.Split(out.String(), "\n") {
		_, add, found := strings.Cut(line, "add a folder     CID=$(")
		if !found {
			continue
		}
		words, err := exec.Command("/bin/sh", "-c", `for w in `+strings.TrimSuffix(add, ")")+`; do echo "$w"; done`).Output()
		require.NoError(t, err)
		require.Equal(t, []string{"add", "--dir", dir, "--quiet", filepath.Join(dir, "example")}, strings.Split(strings.TrimSpace(string(words)), "\n")[1:])
		return
	}
	require.Fail(t, "no command to add a folder", out.String())
}

func TestEveryCommandHelpsWithAnExample(t *testing.T) {
	root := rootCommand(context.Background())
	require.NotEmpty(t, root.Example)
	for _, cmd := range root.Commands() {
		require.NotEmpty(t, cmd.Example, cmd.Name())
		require.NotEmpty(t, cmd.Long, cmd.Name())
		require.Contains(t, cmd.Example, "local-cluster "+cmd.Name())
	}
}
