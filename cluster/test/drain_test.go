package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slowAdd is an add whose client takes its time: it sends a file when it is told.
type slowAdd struct {
	t    *testing.T
	form *multipart.Writer
	body *io.PipeWriter
	sent chan error // the result of Do, which waits for the first object of the answer
	res  *http.Response
}

func (k *task) startAdd(t *testing.T) *slowAdd {
	r, w := io.Pipe()
	a := &slowAdd{t: t, form: multipart.NewWriter(w), body: w}
	req, err := http.NewRequest(http.MethodPost, k.api+"/add?stream-channels=true&raw-leaves=true&cid-version=1&wrap-with-directory=true", r)
	require.NoError(t, err)
	req.Header.Set("Content-Type", a.form.FormDataContentType())
	req.SetBasicAuth(user, password)
	a.sent = make(chan error, 1)
	go func() {
		var err error
		a.res, err = http.DefaultClient.Do(req)
		a.sent <- err
	}()
	return a
}

// send sends a file.
func (a *slowAdd) send(name string) {
	part, err := a.form.CreateFormFile("file", name)
	require.NoError(a.t, err)
	_, err = part.Write(bytes.Repeat([]byte(name), 100_000))
	require.NoError(a.t, err)
}

// finish ends the body and returns the last object of the answer.
func (a *slowAdd) finish() addedObject {
	require.NoError(a.t, a.form.Close())
	require.NoError(a.t, a.body.Close())
	last, err := a.answer()
	require.NoError(a.t, err)
	return last
}

// answer reads the answer to its end and returns its last object.
func (a *slowAdd) answer() (last addedObject, err error) {
	if err := <-a.sent; err != nil {
		return last, err
	}
	defer a.res.Body.Close()
	for dec := json.NewDecoder(a.res.Body); ; {
		var one addedObject
		err := dec.Decode(&one)
		if err == io.EOF {
			break
		}
		if err != nil {
			return last, err
		}
		if one.Error != "" {
			return last, errors.New(one.Error)
		}
		last = one
	}
	return last, nil
}

// drain sends SIGTERM and waits until the sidecar refuses what is new.
func (k *task) drain(t *testing.T) {
	require.NoError(t, k.sidecar.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool {
		res, err := http.Get(k.health + "/readyz")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return err == nil && res.StatusCode == http.StatusServiceUnavailable && bytes.Contains(body, []byte("shutting down"))
	}, patience, poll)
	urls := []string{k.api + "/add", k.api + "/pins/bafkqaaa", k.api + "/id"}
	if k.settings["CLUSTER_PINSVCAPI_ENABLED"] == "true" {
		urls = append(urls, k.pinning+"/pins")
	}
	for _, url := range urls {
		require.Eventually(t, func() bool {
			req, err := http.NewRequest(http.MethodPost, url, nil)
			require.NoError(t, err)
			req.SetBasicAuth(user, password)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return false
			}
			defer res.Body.Close()
			return res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != ""
		}, patience, poll, url)
	}
	res, err := http.Get(k.health + "/livez")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode, "it lives")
}

// ended waits for the sidecar's end and returns its exit code.
func (k *task) ended(t *testing.T) int {
	select {
	case <-k.sidecar.done:
	case <-time.After(patience):
		require.Fail(t, "it does not end", k.name)
	}
	return k.sidecar.cmd.ProcessState.ExitCode()
}

// TestAPeerThatShutsDownFinishesWhatIsInFlight stops the peer where an add
// arrives and one that it goes to, in the middle of it.
func TestAPeerThatShutsDownFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	const bound = 20 * time.Second
	all := tasks(t, options{names: three(), settings: func(name string) map[string]string {
		if name == "task-2" {
			return map[string]string{"CLUSTER_SHUTDOWN_TIMEOUT": bound.String()}
		}
		return map[string]string{"CLUSTER_PINSVCAPI_ENABLED": "true"}
	}})
	for _, k := range all {
		k.settings["CLUSTER_PINSVCAPI_HTTPLISTENMULTIADDRESS"] = multiaddress(k.pinning)
		k.start()
	}
	awaitAll(t, all)

	a := all[0].startAdd(t)
	for i := range 100 { // until it is on its way to the others
		a.send(fmt.Sprint("first-", i))
	}
	all[0].drain(t)
	all[2].drain(t)
	require.Nil(t, all[0].sidecar.cmd.ProcessState, "it waits")
	require.Nil(t, all[2].sidecar.cmd.ProcessState, "it waits")
	a.send("last")
	added := a.finish()
	require.Empty(t, added.Missing)
	require.Zero(t, all[0].ended(t), all[0].sidecar.output())
	require.Zero(t, all[2].ended(t), all[2].sidecar.output())
	for _, k := range all {
		n, err := k.localBlocks(added.Cid)
		require.NoError(t, err, "%s does not hold what was answered", k.name)
		require.Greater(t, n, 102) // a folder, its files, and their blocks
	}
	awaitKept(t, all[1:2], map[string]bool{added.Cid: true})
	all[0].startSidecar()
	all[2].startSidecar()
	awaitAll(t, all)
	awaitKept(t, all, map[string]bool{added.Cid: true})

	// A client that never ends does not hold up the end.
	before, err := all[0].pinset()
	require.NoError(t, err)
	a = all[1].startAdd(t)
	a.send("never-ending")
	began := time.Now()
	all[1].drain(t)
	all[1].ended(t)
	t.Logf("an add that does not end: gone after %.1f s of %s", time.Since(began).Seconds(), bound)
	require.Contains(t, all[1].sidecar.output(), "requests were still running: their time is up")
	require.NoError(t, a.body.Close()) // the HTTP client waits for it even without a connection
	_, err = a.answer()
	require.Error(t, err, "the client is not told that all is well")
	all[1].startSidecar()
	awaitAll(t, all)
	after, err := all[0].pinset()
	require.NoError(t, err)
	require.Equal(t, before, after)
}
