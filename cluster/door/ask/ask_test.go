package ask

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
)

func id(t *testing.T, s string) peer.ID {
	t.Helper()
	p, err := peer.Decode(s)
	require.NoError(t, err)
	return p
}

const (
	one     = "12D3KooWGRUtEFeaU5LpDYXR7bJKnTTXKLVDNiyV8BxvJBmnyVJr"
	two     = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
	another = "12D3KooWH3uVF6wv47WnArKHk5p6cvgCJEb74UTmxztmQDc298L3"
)

func TestMistakesAreSaid(t *testing.T) {
	c := Cluster{Peers: []peer.ID{id(t, one), id(t, two)}, Min: 1, Max: 2}
	for query, says := range map[string]string{
		"/add?mode=bogus":                          "use recursive or direct",
		"/pins/bafy?mode=bogus":                    "use recursive or direct",
		"/pins/ipfs/bafy/x?mode=bogus":             "use recursive or direct",
		"/add?replication=3":                       "the cluster has 2 peers",
		"/add?replication-max=9":                   "the cluster has 2 peers",
		"/add?replication-min=2&replication-max=1": "is more than",
		"/add?replication-max=x":                   "use a number of copies",
		"/add?replication-min=-2":                  "use a number of copies",
		"/add?replication-min=-1":                  "is more than",
		"/add?expire-at=2001-01-01T00:00:00Z":      "is over",
		"/add?expire-at=tomorrow":                  "use a time",
		"/add?expire-in=1ms":                       "a second or more",
		"/add?expire-in=soon":                      "a second or more",
		"/add?user-allocations=bogus":              `"bogus" is not a peer ID`,
		"/pins/bafy?user-allocations=" + another:   "not a peer of this cluster",
		"/add?chunker=bogus":                       "use for example size-262144",
		"/add?chunker=size-0":                      "use for example size-262144",
		"/add?hash=bogus":                          "use for example sha2-256",
		"/add?cid-version=2":                       "use 1 or 0",
		"/add?cid-version=0&hash=blake3":           "needs cid-version=1",
	} {
		err := c.Check(httptest.NewRequest(http.MethodPost, query, nil))
		require.ErrorContains(t, err, says, query)
	}
	// All of them at once.
	err := c.Check(httptest.NewRequest(http.MethodPost, "/add?mode=x&chunker=y&hash=z", nil))
	for _, says := range []string{"mode=x", "chunker=y", "hash=z"} {
		require.ErrorContains(t, err, says)
	}
}

func TestWhatIsRightPasses(t *testing.T) {
	c := Cluster{Peers: []peer.ID{id(t, one), id(t, two)}, Min: 1, Max: 2}
	for _, query := range []string{
		"/add", "/add?replication=2", "/add?replication=-1", "/add?replication-min=0&replication-max=0", "/add?replication-max=1",
		"/add?expire-at=2999-01-01T00:00:00Z", "/add?expire-in=24h", "/add?mode=direct", "/add?user-allocations=" + one + "," + two,
		"/add?chunker=rabin-16384-65536-131072", "/add?chunker=buzhash", "/add?hash=blake3", "/add?hash=SHA2-512&cid-version=1",
		"/add?replication=1&replication-min=9", // the first says it all
		"/pins/bafy/recover?mode=any", "/monitor/x?mode=bogus",
	} {
		require.NoError(t, c.Check(httptest.NewRequest(http.MethodPost, query, nil)), query)
	}
	require.NoError(t, c.Check(httptest.NewRequest(http.MethodGet, "/pins/bafy?mode=bogus", nil)))
	require.NoError(t, Cluster{Min: -1, Max: -1}.Check(httptest.NewRequest(http.MethodPost, "/add?replication=9", nil)))
}

func TestAFilterThatIsNoneIsSaid(t *testing.T) {
	for _, target := range []string{"/pins?names=a", "/pins?local=true&limit=3", "/allocations?local=true", "/allocations?names=a"} {
		err := Cluster{}.Check(httptest.NewRequest(http.MethodGet, target, nil))
		require.ErrorContains(t, err, "is no parameter of", target)
	}
	for _, target := range []string{"/pins", "/pins?local=true&filter=pinned&cids=x", "/allocations?filter=all", "/pins/bafy?local=true", "/id?x=y"} {
		require.NoError(t, Cluster{}.Check(httptest.NewRequest(http.MethodGet, target, nil)), target)
	}
}

func TestTooFewPeersIsNoFaultOfTheProgram(t *testing.T) {
	answer := func(status int, body string) (int, string) {
		w := httptest.NewRecorder()
		w.WriteHeader(status)
		_, _ = w.WriteString(body)
		r := w.Result()
		require.NoError(t, Cluster{}.Answer(r))
		got, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		return r.StatusCode, string(got)
	}
	code, body := answer(500, `{"code":500,"message":"not enough peers to allocate CID. Needed at least: 2."}`)
	require.Equal(t, 503, code)
	require.JSONEq(t, `{"code":503,"message":"not enough peers to allocate CID. Needed at least: 2."}`, body)
	for _, other := range []string{`{"code":500,"message":"disk full"}`, "text", ""} {
		code, body := answer(500, other)
		require.Equal(t, 500, code)
		require.Equal(t, other, body)
	}
	code, body = answer(200, "{}")
	require.Equal(t, 200, code)
	require.Equal(t, "{}", body)
}
