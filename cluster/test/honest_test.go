package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMistakesOfAClientAreSaid: 400 and a sentence, before anything is done.
func TestMistakesOfAClientAreSaid(t *testing.T) {
	k := tasks(t, options{names: []string{"task-1"}})[0]
	k.start()
	awaitAll(t, []*task{k})
	content := []byte("content")
	for query, says := range map[string]string{
		"mode=bogus":                           "use recursive or direct",
		"replication=9":                        "the cluster has 1 peers",
		"replication-min=-1&replication-max=1": "more than",
		"expire-at=2001-01-01T00:00:00Z":       "is over",
		"user-allocations=bogus":               "not a peer ID",
		"chunker=bogus":                        "chunker",
		"hash=bogus":                           "sha2-256",
		"format=bogus":                         "format",
		"layout=bogus":                         "layout",
		"progress=bogus":                       "progress",
	} {
		for _, stream := range []string{"true", "false"} {
			_, code, err := k.addPart(content, query+"&stream-channels="+stream)
			require.Equal(t, http.StatusBadRequest, code, "%s: %v", query, err)
			require.ErrorContains(t, err, says, query)
		}
		if strings.HasPrefix(query, "mode") || strings.HasPrefix(query, "repl") || strings.HasPrefix(query, "exp") || strings.HasPrefix(query, "user") {
			code, body, err := k.request(http.MethodPost, "/pins/bafkqaaa?"+query)
			require.NoError(t, err)
			require.Equal(t, http.StatusBadRequest, code, "%s: %s", query, body)
			require.Contains(t, string(body), says)
		}
	}
	for _, path := range []string{"/pins/bogus", "/pins/ipfs/bogus"} {
		code, body, err := k.request(http.MethodPost, path)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, code, "%s: %s", path, body)
	}
	for name, car := range map[string]string{"no CAR": "text", "empty": ""} {
		_, code, err := k.addPart([]byte(car), "format=car&stream-channels=true")
		require.Equal(t, http.StatusBadRequest, code, "%s: %v", name, err)
	}
	pins, err := k.pinset()
	require.NoError(t, err)
	require.Empty(t, pins)

	// What the door makes of content unless it is told otherwise.
	for query, begins := range map[string]string{"": "bafk", "?cid-version=0": "Qm"} {
		var body strings.Builder
		form := multipart.NewWriter(&body)
		part, err := form.CreateFormFile("file", "f")
		require.NoError(t, err)
		_, err = part.Write(content)
		require.NoError(t, err)
		require.NoError(t, form.Close())
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, k.api+"/add"+query, strings.NewReader(body.String()))
		require.NoError(t, err)
		req.Header.Set("Content-Type", form.FormDataContentType())
		req.SetBasicAuth(user, password)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		var one addedObject
		require.NoError(t, json.NewDecoder(res.Body).Decode(&one))
		require.NoError(t, res.Body.Close())
		require.True(t, strings.HasPrefix(one.Cid, begins), "%q: %s", query, one.Cid)
	}
}

// TestAnAddThatFailsLateBreaksOff: its node dies when the first file was reported.
func TestAnAddThatFailsLateBreaksOff(t *testing.T) {
	k := tasks(t, options{names: []string{"task-1"}})[0]
	k.start()
	awaitAll(t, []*task{k})
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	reported := make(chan struct{})
	go func() {
		err := func() error {
			for i := range 3 {
				part, err := form.CreateFormFile("file", fmt.Sprintf("f%d", i))
				if err != nil {
					return err
				}
				if i == 2 { // the first has been reported, as one is held back
					<-reported
				}
				if _, err := part.Write([]byte(strings.Repeat("x", 1000+i))); err != nil {
					return err
				}
			}
			return form.Close()
		}()
		w.CloseWithError(err)
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, k.api+"/add?wrap-with-directory=true&stream-channels=true", r)
	require.NoError(t, err)
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.SetBasicAuth(user, password)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	dec := json.NewDecoder(res.Body)
	var first, last addedObject
	require.NoError(t, dec.Decode(&first))
	require.Equal(t, "f0", first.Name)
	k.node.kill()
	close(reported)
	var broken error
	for {
		var one addedObject
		if broken = dec.Decode(&one); broken != nil {
			break
		}
		last = one
	}
	require.NotErrorIs(t, broken, io.EOF, "the answer looks whole")
	require.NotEmpty(t, last.Error)
	require.Empty(t, last.Cid)
	t.Logf("%s; then %s", last.Error, broken)
}

// TestCtlSaysWhyAStreamBrokeOff: the program shows the line that the two tests above read. The API is one that
// fails at will.
func TestCtlSaysWhyAStreamBrokeOff(t *testing.T) {
	t.Parallel()
	const why = "no destination is left"
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"cid":"bafkqaaa","name":"first"}`+"\n")
		_ = json.NewEncoder(w).Encode(map[string]any{"error": why, "code": http.StatusInternalServerError})
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer api.Close()
	file := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(file, []byte("content"), 0o600))
	for _, args := range [][]string{{"add", file}, {"add", "-Q", file}, {"add", "--no-stream", file}, {"status"}, {"pin", "ls"}, {"recover"}, {"peers", "ls"}} {
		out, errOut, code := run(t, []string{"HOME=/nonexistent"}, "cluster-aws", append([]string{"ctl", "--host", multiaddress(api.URL), "--basic-auth", "u:p"}, args...)...)
		require.Equal(t, 2, code, "%v: %s", args, errOut)
		require.Contains(t, errOut, why, args)
		require.NotContains(t, errOut, "EOF", args)
		require.NotContains(t, out, why, args)
	}
}

// TestTheDoorOfAPeerThatIsAlone: what it cannot do now is 503, and its log says who came.
func TestTheDoorOfAPeerThatIsAlone(t *testing.T) {
	t.Parallel()
	k := tasks(t, options{names: []string{"task-1", "task-2"}, standIn: true, settings: func(string) map[string]string {
		return map[string]string{"CLUSTER_REPLICATIONFACTORMIN": "2", "CLUSTER_REPLICATIONFACTORMAX": "2", "CLUSTER_PINSVCAPI_ENABLED": "true"}
	}})[0]
	k.settings["CLUSTER_PINSVCAPI_HTTPLISTENMULTIADDRESS"] = multiaddress(k.pinning)
	k.start()
	ask := func(path, password string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(`{"cid":"bafkqaaa"}`))
		require.NoError(t, err)
		req.SetBasicAuth(user, password)
		req.Header.Set("X-Forwarded-For", "6.6.6.6, 203.0.113.9")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error() // it starts
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(body)
	}
	for _, path := range []string{k.api + "/pins/bafkqaaa", k.pinning + "/pins"} {
		var said string
		require.Eventually(t, func() bool {
			var code int
			code, said = ask(path, password)
			return code == http.StatusServiceUnavailable && strings.Contains(said, "not enough peers")
		}, patience, poll, "%s: %s", path, said)
		code, said := ask(path, "wrong")
		require.Equal(t, http.StatusUnauthorized, code)
		require.Contains(t, said, "the password is wrong")
	}
	_, code, err := k.addPart([]byte("content"), "")
	require.Equal(t, http.StatusServiceUnavailable, code, "%v", err)
	log := k.sidecar.output()
	require.Contains(t, log, "203.0.113.9 - admin [")
	require.Contains(t, log, "203.0.113.9 - - [")
	code, _, err = k.request(http.MethodGet, "/allocations/bafkqaaa")
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, code)
	for line := range strings.Lines(k.sidecar.output()) {
		require.False(t, strings.Contains(line, "ERROR") && strings.Contains(line, "sending error response"), "a mistake of a client: %s", line)
	}
}
