package s3bill

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// answer is what a client of the gateway has got.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // of the body: it broke off
}

func ask(t *testing.T, method, url string, header ...string) (a answer) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	a.status, a.header = resp.StatusCode, resp.Header
	a.body, a.err = io.ReadAll(resp.Body)
	return a
}

// format is a way to ask the gateway for a file, or for a folder with a file.
type format struct {
	name   string
	url    func(folder, file string) string
	method string
	header []string
}

var formats = []format{
	{name: "file", url: func(_, file string) string { return "/ipfs/" + file }},
	{name: "file in a folder", url: func(folder, _ string) string { return "/ipfs/" + folder + "/f" }},
	{name: "listing", url: func(folder, _ string) string { return "/ipfs/" + folder + "/" }},
	{name: "range", url: func(_, file string) string { return "/ipfs/" + file }, header: []string{"Range", "bytes=10-49000"}},
	{name: "HEAD", url: func(_, file string) string { return "/ipfs/" + file }, method: http.MethodHead},
	{name: "raw", url: func(_, file string) string { return "/ipfs/" + file + "?format=raw" }},
	{name: "car", url: func(_, file string) string { return "/ipfs/" + file + "?format=car" }},
	{name: "car of a folder", url: func(folder, _ string) string { return "/ipfs/" + folder + "?format=car" }},
	{name: "tar", url: func(folder, _ string) string { return "/ipfs/" + folder + "?format=tar" }},
	{name: "dag-json", url: func(folder, _ string) string { return "/ipfs/" + folder + "?format=dag-json" }},
	{name: "dag-cbor", url: func(folder, _ string) string { return "/ipfs/" + folder + "?format=dag-cbor" }},
}

var storeFailures = map[string]s3test.Fault{
	"503":      {Status: http.StatusServiceUnavailable, Code: "SlowDown", Message: "Please reduce your request rate."},
	"archived": {Status: http.StatusForbidden, Code: "InvalidObjectState", Message: "The operation is not valid for the object's storage class"},
	"flipped":  {Cut: s3test.Flip, CutAfter: 100},
	"cut":      {Cut: s3test.Shorten, CutAfter: 100},
}

// sameBody says whether an answer has what another had. A TAR has the time of day in it.
func (f format) sameBody(a, b []byte) bool {
	if f.name == "tar" {
		return len(a) == len(b)
	}
	return bytes.Equal(a, b)
}

// TestNoAnswerLooksWhole asks for content one block of which the store cannot read, in each format
// and with each failure: an answer is whole, or an error that may not be kept, or it breaks off.
func TestNoAnswerLooksWhole(t *testing.T) {
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.URL)
	bucket := server.NewBucket(t)
	n := ours(t)
	n.initOurs(proxy.URL, bucket, "a/prefix", nil)
	n.relayout("objects") // one object for each block
	n.edit(func(store map[string]any) { store["maxAttempts"] = 2 })
	n.Run("config", "Routing.Type", "none")
	n.Run("config", "--json", "Gateway.AllowCodecConversion", "true")
	n.Start()

	type cell struct {
		format
		failure, position string
		folder, file      string
		key               string // of the object that fails
		whole             answer
		hits              atomic.Int64
	}
	var cells []*cell
	places := []string{"root", "first", "middle", "last"}
	for _, f := range formats {
		for failure := range storeFailures {
			slow := failure == "503" || failure == "flipped" // they are tried again
			if slow && f.name != "file" && f.name != "car" && !gate.Full() {
				continue
			}
			for _, place := range places {
				cells = append(cells, &cell{format: f, failure: failure, position: place})
			}
		}
	}
	// Those that the bucket asks for patience come last: the client slows down, for all objects.
	slices.SortStableFunc(cells, func(a, b *cell) int {
		patient := func(c *cell) int {
			if c.failure == "503" {
				return 1
			}
			return 0
		}
		return patient(a) - patient(b)
	})
	each := func(f func(i int, c *cell)) {
		var wg sync.WaitGroup
		slots := make(chan struct{}, 8)
		for i, c := range cells {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				f(i, c)
			})
		}
		wg.Wait()
	}
	// A folder for each, which are added at once.
	top := t.TempDir()
	for i := range cells {
		dir := filepath.Join(top, fmt.Sprintf("%03d", i))
		require.NoError(t, os.Mkdir(dir, 0o700))
		data := make([]byte, 12*4096)
		_, _ = random(uint64(1000 + i)).Read(data)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), data, 0o600))
	}
	roots := map[string]string{}
	for line := range strings.Lines(n.Run("add", "-r", "--cid-version=1", "--chunker=size-4096", "--progress=false", top)) {
		f := strings.Fields(line) // added CID path
		rel, err := filepath.Rel(filepath.Base(top), f[2])
		require.NoError(t, err)
		roots[rel] = f[1]
	}
	byKey := map[string]*cell{}
	for i, c := range cells {
		name := fmt.Sprintf("%03d", i)
		c.folder, c.file = roots[name], roots[name+"/f"]
		leaves := strings.Fields(n.Run("refs", c.file))
		require.Len(t, leaves, 12)
		id, err := cid.Decode(map[string]string{"root": c.file, "first": leaves[0], "middle": leaves[6], "last": leaves[11]}[c.position])
		require.NoError(t, err)
		c.key = dshelp.MultihashToDsKey(id.Hash()).String()[1:]
		byKey[c.key] = c
		if c.method == "" {
			c.method = http.MethodGet
		}
	}
	get := func(c *cell) answer { return ask(t, c.method, n.Gateway+c.url(c.folder, c.file), c.header...) }
	each(func(_ int, c *cell) { c.whole = get(c) })
	for _, c := range cells {
		require.NoError(t, c.whole.err, c.name)
		require.Contains(t, []int{200, 206}, c.whole.status, "%s: %s", c.name, c.whole.body)
	}

	proxy.Disturb(func(r *http.Request) s3test.Fault {
		c := byKey[path.Base(r.URL.Path)]
		if c == nil || r.Method != http.MethodGet {
			return s3test.Fault{}
		}
		c.hits.Add(1)
		return storeFailures[c.failure]
	})
	var mu sync.Mutex
	outcome := map[string]int{}
	var wrong []string
	each(func(_ int, c *cell) {
		began := time.Now()
		a := get(c)
		took := time.Since(began)
		how := "broken off"
		switch {
		case a.err != nil:
		case a.status >= 400:
			how = fmt.Sprint(a.status)
		default:
			how = "whole"
		}
		mu.Lock()
		defer mu.Unlock()
		outcome[fmt.Sprintf("%s, %s: %s", c.name, c.position, how)]++
		bad := func(format string, args ...any) {
			wrong = append(wrong, fmt.Sprintf("%s, %s block %s: ", c.name, c.position, c.failure)+fmt.Sprintf(format, args...))
		}
		switch {
		case how == "whole" && c.hits.Load() > 0 && !c.sameBody(a.body, c.whole.body):
			bad("%d looks whole with %d of %d bytes, %v", a.status, len(a.body), len(c.whole.body), a.header)
		case how == "whole" && !c.sameBody(a.body, c.whole.body):
			bad("%d bytes are not those of before", len(a.body))
		case a.status >= 400 && a.status < 500:
			bad("%d says that it is the client's fault: %s", a.status, a.body)
		case a.status >= 500 && (a.header.Get("Cache-Control") != "no-store" || a.header.Get("Etag") != ""):
			bad("may be kept: %v", a.header)
		case a.status >= 500 && (bytes.Contains(a.body, []byte(bucket)) || bytes.Contains(a.body, []byte("a/prefix"))):
			bad("the public sees %s", a.body)
		case a.status >= 500 && a.header.Get("X-Request-Id") == "":
			bad("no request id: %v", a.header)
		case a.status == http.StatusGatewayTimeout && c.failure != "503":
			// A bucket that asks for patience gets it.
			bad("%d after %s: it was searched for in the network", a.status, took)
		}
		if a.status >= 500 && a.err == nil && c.method != http.MethodHead {
			id := a.header.Get("X-Request-Id")
			if !bytes.Contains(a.body, []byte(id)) {
				bad("the body does not name the request: %s", a.body)
			}
			if !strings.Contains(n.Logged(), id) {
				bad("the log does not have request %s", id)
			}
		}
	})
	said := make([]string, 0, len(outcome))
	for k, v := range outcome {
		said = append(said, fmt.Sprintf("%s (%d)", k, v))
	}
	slices.Sort(said)
	t.Logf("%d answers:\n%s", len(cells), strings.Join(said, "\n"))
	slices.Sort(wrong)
	require.Empty(t, wrong)
	hit := 0
	for _, c := range cells {
		if c.hits.Load() > 0 {
			hit++
		}
	}
	require.Greater(t, hit, len(cells)/2, "too few blocks were read")

	// Each object is named once a minute in the log, not for each try; requests are told on top.
	named := map[string]int{}
	for line := range strings.Lines(n.Logged()) {
		if _, said, ok := strings.Cut(line, "cannot be read from the store: "); ok && strings.Contains(line, "plugin/blocks") {
			named[said]++
		}
	}
	require.NotEmpty(t, named)
	for said, times := range named {
		require.LessOrEqual(t, times, 3, said)
	}

	// The same on the command line: at once, with the reason, and not "not found".
	for _, c := range cells {
		if c.name != "file" || c.failure != "archived" {
			continue
		}
		commands := [][]string{{"cat", c.file}, {"cat", "--offline", c.file}, {"dag", "export", "--progress=false", c.file}, {"get", "-o", filepath.Join(t.TempDir(), "out"), c.file}}
		if c.position == "root" { // a pin looks whether leaves are there, and does not read them
			commands = append(commands, []string{"pin", "add", c.file})
		}
		for _, args := range commands {
			began := time.Now()
			said := n.Fail(args...)
			require.Less(t, time.Since(began), 20*time.Second, args)
			require.NotContains(t, said, "no providers", args)
		}
	}

	// When the store is well again, so are the answers.
	proxy.Disturb(nil)
	each(func(_ int, c *cell) {
		a := get(c)
		if a.err != nil || !c.sameBody(a.body, c.whole.body) {
			mu.Lock()
			defer mu.Unlock()
			wrong = append(wrong, fmt.Sprintf("%s, %s block %s, afterwards: %d %v", c.name, c.position, c.failure, a.status, a.err))
		}
	})
	require.Empty(t, wrong)
}
