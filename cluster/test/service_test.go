package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// remotePin is a request as the pinning service shows it.
type remotePin struct {
	RequestID string
	Status    string
	Created   time.Time
	Pin       struct {
		Cid, Name string
		Meta      map[string]string
	}
	Delegates []string
	Info      map[string]string
}

// remotePins is the answer to a list.
type remotePins struct {
	Count   int
	Results []remotePin
}

// remote asks a task's pinning service and returns the status and the body.
func (k *task) remote(method, path string, body any) (int, []byte) {
	k.t.Helper()
	code, out, err := k.tryRemote(method, path, body)
	require.NoError(k.t, err)
	return code, out
}

func (k *task) tryRemote(method, path string, body any) (int, []byte, error) {
	text, ok := body.(string)
	if !ok && body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		text = string(b)
	}
	req, err := http.NewRequest(method, k.pinning+path, strings.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	req.SetBasicAuth(user, password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	var out bytes.Buffer
	_, err = out.ReadFrom(res.Body)
	return res.StatusCode, out.Bytes(), err
}

func (k *task) remoteList(query string) remotePins {
	k.t.Helper()
	code, body := k.remote(http.MethodGet, "/pins?"+query, nil)
	require.Equal(k.t, http.StatusOK, code, "%s: %s", query, body)
	var out remotePins
	require.NoError(k.t, json.Unmarshal(body, &out))
	return out
}

const anyStatus = "status=queued,pinning,pinned,failed"

// pages reads a whole list by "before", as the specification has it, with the times that JavaScript can send.
func (k *task) pages(query string, limit int) (all []remotePin, asked int) {
	k.t.Helper()
	query += "&limit=" + strconv.Itoa(limit)
	before := ""
	for {
		page := k.remoteList(query + before)
		asked++
		all = append(all, page.Results...)
		require.LessOrEqual(k.t, len(page.Results), limit)
		if page.Count == len(page.Results) {
			return all, asked
		}
		require.Len(k.t, page.Results, limit)
		before = "&before=" + url.QueryEscape(page.Results[limit-1].Created.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
}

func pinningService(t *testing.T, o options) []*task {
	o.settings = func(string) map[string]string { return map[string]string{"CLUSTER_PINSVCAPI_ENABLED": "true"} }
	all := tasks(t, o)
	for _, k := range all {
		k.settings["CLUSTER_PINSVCAPI_HTTPLISTENMULTIADDRESS"] = multiaddress(k.pinning)
		k.start()
	}
	awaitAll(t, all)
	return all
}

// TestPinningService is about what clients of the pinning service rely on, over two tasks and with
// our own program as the client.
func TestPinningService(t *testing.T) {
	t.Parallel()
	all := pinningService(t, options{names: []string{"task-1", "task-2"}})
	k := all[0]
	const n = 60
	var texts []string
	for i := range n + 4 {
		texts = append(texts, fmt.Sprint("block ", i))
	}
	cids := k.putBlocks(texts)
	rest := func(method, path string, want int) {
		code, body, err := k.request(method, path)
		require.NoError(t, err)
		require.Equal(t, want, code, string(body))
	}
	// Some of them come by the REST API, many in the same second.
	var adding errgroup.Group
	adding.SetLimit(8)
	for i, c := range cids[:n] {
		adding.Go(func() error {
			if i%6 == 0 {
				code, body, err := k.request(http.MethodPost, "/pins/"+c+"?name=rest")
				if err == nil && code != http.StatusOK {
					err = fmt.Errorf("%d %s", code, body)
				}
				return err
			}
			code, body, err := all[i%2].tryRemote(http.MethodPost, "/pins", map[string]any{
				"cid": c, "name": fmt.Sprint("Name ", i), "meta": map[string]string{"third": fmt.Sprint(i % 3)}})
			if err == nil && code != http.StatusAccepted {
				err = fmt.Errorf("%d %s", code, body)
			}
			return err
		})
	}
	require.NoError(t, adding.Wait())

	t.Run("pages", func(t *testing.T) {
		var first []remotePin
		for _, limit := range []int{1000, 1, 7, 10} {
			for _, at := range all {
				got, _ := at.pages(anyStatus, limit)
				require.Len(t, got, n)
				if first == nil {
					first = got
				}
				for i := range got {
					require.Equal(t, first[i].RequestID, got[i].RequestID, "the order is the same everywhere")
					require.NotEmpty(t, got[i].Delegates)
					require.True(t, i == 0 || got[i].Created.Before(got[i-1].Created), "newest first, and no two at once")
				}
			}
		}
		later := k.remoteList(anyStatus + "&limit=1000&after=" + url.QueryEscape(first[10].Created.Format(time.RFC3339Nano)))
		require.Equal(t, 10, later.Count)
		require.Len(t, k.remoteList(anyStatus).Results, 10, "the default")
	})
	require.Eventually(t, func() bool { return k.remoteList("").Count == n }, patience, poll, "without a filter: what is pinned")

	t.Run("filters", func(t *testing.T) {
		for query, want := range map[string]int{
			"name=Name+1": 1, "name=name+1": 0, "name=name+1&match=iexact": 1, "name=ame+1&match=partial": 9, "name=NAME+1&match=partial": 0,
			"name=NAME+1&match=ipartial": 9, "meta=" + url.QueryEscape(`{"third":"2"}`): 20, "meta=" + url.QueryEscape(`{"third":"2","x":"y"}`): 0,
			"name=rest": 10, "cid=" + cids[1] + "," + cids[2] + "," + cids[n]: 2, "status=failed,queued": 0,
		} {
			got := k.remoteList("limit=1000&" + query)
			require.Equal(t, want, got.Count, query)
			require.Len(t, got.Results, want, query)
		}
	})

	t.Run("mistakes", func(t *testing.T) {
		for query, says := range map[string]string{
			"cid=bogus": "not a CID", "status=bogus": "not one of", "status=pinned,bogus": "not one of", "before=yesterday": "use a time", "after=1": "use a time",
			"limit=0": "from 1 to 1000", "limit=1001": "from 1 to 1000", "limit=x": "from 1 to 1000", "limit=-1": "from 1 to 1000", "match=bogus": "iexact",
			"meta=bogus": "JSON object", "meta=" + url.QueryEscape(`{"a":1}`): "JSON object", "name=" + strings.Repeat("x", 256): "longer",
		} {
			code, body := k.remote(http.MethodGet, "/pins?"+query, nil)
			require.Equal(t, http.StatusBadRequest, code, "%s: %s", query, body)
			require.Contains(t, string(body), says, query)
			require.Contains(t, string(body), `"reason":"BAD_REQUEST"`)
		}
		for sent, says := range map[string]string{
			``: "JSON object", `[]`: "JSON object", `{}`: "cid is missing", `{"name":"x"}`: "cid is missing", `{"cid":"bogus"}`: "not a CID",
			`{"cid":"` + cids[n] + `","name":"` + strings.Repeat("x", 256) + `"}`:          "longer",
			`{"cid":"` + cids[n] + `","meta":{"a":"` + strings.Repeat("x", 40_000) + `"}}`: "32768 bytes at most",
			`{"cid":"` + cids[n] + `","origins":["bogus"]}`:                                "not a multiaddress",
			`{"cid":"` + cids[n] + `","meta":{"a":1}}`:                                     "JSON object",
			`{"cid":"` + cids[n] + `","meta":{"cluster-aws-requests":"[]"},"name":"x"}`:    "use another one",
		} {
			code, body := k.remote(http.MethodPost, "/pins", sent)
			require.Equal(t, http.StatusBadRequest, code, "%s: %s", sent, body)
			require.Contains(t, string(body), says, sent)
		}
		for _, id := range []string{"bogus", cids[n], cids[1] + "-none", "a/b"} {
			for _, method := range []string{http.MethodGet, http.MethodDelete, http.MethodPost} {
				code, body := k.remote(method, "/pins/"+id, map[string]string{"cid": cids[n]})
				require.Equal(t, http.StatusNotFound, code, "%s %s: %s", method, id, body)
			}
		}
		require.Equal(t, n, k.remoteList(anyStatus).Count, "none of it did anything")
	})

	t.Run("many requests for one CID", func(t *testing.T) {
		c := cids[n]
		var made []remotePin
		var lock errgroup.Group
		var ids [6]remotePin
		for i := range ids { // at the same moment, through both tasks
			lock.Go(func() error {
				code, body, err := all[i%2].tryRemote(http.MethodPost, "/pins", map[string]string{"cid": c, "name": fmt.Sprint("r", i)})
				if err == nil && code != http.StatusAccepted {
					err = fmt.Errorf("%d %s", code, body)
				}
				if err != nil {
					return err
				}
				return json.Unmarshal(body, &ids[i])
			})
		}
		require.NoError(t, lock.Wait())
		made = ids[:]
		require.Equal(t, len(made), k.remoteList(anyStatus+"&cid="+c).Count)
		// The REST API has one pin, and changes of it leave the requests alone.
		rest(http.MethodPost, "/pins/"+c+"?name=other&meta-a=b", http.StatusOK)
		require.Equal(t, len(made), all[1].remoteList(anyStatus+"&cid="+c).Count)
		// To pin what is made from it elsewhere is nothing that the service was asked for.
		rest(http.MethodPost, "/pins/"+cids[n+3]+"?pin-update="+c, http.StatusOK)
		got := all[1].remoteList(anyStatus + "&cid=" + cids[n+3])
		require.Equal(t, 1, got.Count)
		require.Equal(t, cids[n+3], got.Results[0].RequestID)
		code, body := k.remote(http.MethodPost, "/pins/"+made[0].RequestID, map[string]any{"cid": cids[n+1], "name": "new"})
		require.Equal(t, http.StatusAccepted, code, string(body))
		var replaced remotePin
		require.NoError(t, json.Unmarshal(body, &replaced))
		require.NotEqual(t, made[0].RequestID, replaced.RequestID)
		require.Equal(t, cids[n+1], replaced.Pin.Cid)
		for i, one := range made {
			code, body := all[i%2].remote(http.MethodGet, "/pins/"+one.RequestID, nil)
			if i == 0 {
				require.Equal(t, http.StatusNotFound, code, string(body))
				continue
			}
			require.Equal(t, http.StatusOK, code, string(body))
			var shown remotePin
			require.NoError(t, json.Unmarshal(body, &shown))
			require.Equal(t, fmt.Sprint("r", i), shown.Pin.Name)
			require.True(t, shown.Created.Equal(one.Created), "it never changes")
		}
		for i, one := range made[1:] {
			pins, err := all[1].pinset()
			require.NoError(t, err)
			require.Contains(t, pins, c, "a request is left")
			code, _ := all[i%2].remote(http.MethodDelete, "/pins/"+one.RequestID, nil)
			require.Equal(t, http.StatusAccepted, code)
			code, _ = all[(i+1)%2].remote(http.MethodGet, "/pins/"+one.RequestID, nil)
			require.Equal(t, http.StatusNotFound, code)
		}
		pins, err := k.pinset()
		require.NoError(t, err)
		require.NotContains(t, pins, c)
		// A pin of the REST API outlives the requests that come and go.
		code, body = k.remote(http.MethodPost, "/pins", map[string]string{"cid": cids[0], "name": "mine"})
		require.Equal(t, http.StatusAccepted, code)
		var mine remotePin
		require.NoError(t, json.Unmarshal(body, &mine))
		require.Equal(t, 2, k.remoteList(anyStatus+"&cid="+cids[0]).Count)
		code, _ = k.remote(http.MethodDelete, "/pins/"+mine.RequestID, nil)
		require.Equal(t, http.StatusAccepted, code)
		left := k.remoteList(anyStatus + "&cid=" + cids[0])
		require.Equal(t, 1, left.Count)
		require.Equal(t, "rest", left.Results[0].Pin.Name)
	})

	t.Run("too many requests for one CID", func(t *testing.T) {
		code, body := http.StatusAccepted, []byte(nil)
		made := 0
		for code == http.StatusAccepted {
			code, body = all[made%2].remote(http.MethodPost, "/pins", map[string]any{"cid": cids[n], "meta": map[string]string{"a": strings.Repeat("x", 30_000)}})
			made++
		}
		require.Equal(t, http.StatusBadRequest, code, string(body))
		require.Contains(t, string(body), "too many requests")
		listed := k.remoteList(anyStatus + "&cid=" + cids[n])
		require.Equal(t, made-1, listed.Count)
		for _, one := range listed.Results {
			code, _ := k.remote(http.MethodDelete, "/pins/"+one.RequestID, nil)
			require.Equal(t, http.StatusAccepted, code)
		}
	})

	t.Run("what is not found", func(t *testing.T) {
		code, body := k.remote(http.MethodPost, "/pins", map[string]string{"cid": "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", "name": "absent"})
		require.Equal(t, http.StatusAccepted, code, string(body))
		var absent remotePin
		require.NoError(t, json.Unmarshal(body, &absent))
		require.Contains(t, []string{"queued", "pinning"}, absent.Status)
		require.Equal(t, 0, k.remoteList("name=absent").Count, "it is not pinned")
		require.Equal(t, 1, all[1].remoteList("name=absent&status=queued,pinning,failed").Count)
		code, _ = k.remote(http.MethodDelete, "/pins/"+absent.RequestID, nil)
		require.Equal(t, http.StatusAccepted, code)
	})

	t.Run("our own client", func(t *testing.T) {
		total := k.remoteList(anyStatus).Count
		require.Eventually(t, func() bool { return k.remoteList("").Count == total }, patience, poll)
		code, body, err := k.request(http.MethodPost, "/token")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, code)
		var issued struct{ Token string }
		require.NoError(t, json.Unmarshal(body, &issued))
		remote := func(args ...string) []string {
			out, errOut, code := run(t, k.node.env, "ipfs-aws", append([]string{"pin", "remote"}, args...)...)
			require.Equal(t, 0, code, "%v: %s", args, errOut)
			return strings.FieldsFunc(strings.TrimSpace(out), func(r rune) bool { return r == '\n' })
		}
		remote("service", "add", "cluster", k.pinning, issued.Token)
		listed := remote("ls", "--service=cluster")
		require.Len(t, listed, total)
		slices.Sort(listed)
		require.Len(t, slices.Compact(listed), total)
		remote("rm", "--service=cluster", "--force")
		require.Empty(t, remote("ls", "--service=cluster", allStatuses))
		pins, err := k.pinset()
		require.NoError(t, err)
		require.Empty(t, pins)
	})
}

const allStatuses = "--" + anyStatus

// TestALongListOfThePinningService measures it with many pins.
func TestALongListOfThePinningService(t *testing.T) {
	gate.Long(t, "10,000 pins are made first")
	const pins = 10_000
	all := pinningService(t, options{names: three(), standIn: true})
	var adding errgroup.Group
	adding.SetLimit(48)
	for i := range pins {
		adding.Go(func() error {
			code, body, err := all[i%3].tryRemote(http.MethodPost, "/pins", map[string]string{"cid": rawCID(t, fmt.Sprint(i)), "name": fmt.Sprint("pin ", i)})
			if err == nil && code != http.StatusAccepted {
				err = fmt.Errorf("%d %s", code, body)
			}
			return err
		})
	}
	require.NoError(t, adding.Wait())
	require.Eventually(t, func() bool { return all[0].remoteList("").Count == pins }, patience, time.Second)
	for _, query := range []string{anyStatus, "status=pinned"} {
		for _, limit := range []int{1000, 100} {
			var best time.Duration
			for i := range 3 { // this machine may have other work
				began := time.Now()
				got, asked := all[1].pages(query, limit)
				took := time.Since(began)
				require.Len(t, got, pins)
				t.Logf("%s: %d pins in %d pages of %d: %s", query, pins, asked, limit, took)
				if i == 0 || took < best {
					best = took
				}
			}
			if limit == 1000 {
				require.Less(t, best, 1500*time.Millisecond)
			}
		}
	}
	for _, query := range []string{anyStatus + "&name=pin+7", anyStatus + "&name=9&match=partial"} {
		began := time.Now()
		got := all[2].remoteList(query)
		t.Logf("%s: %d of %d: %s", query, got.Count, pins, time.Since(began))
	}
}
