package gate

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/door/pass"
)

func open(t *testing.T, backend http.HandlerFunc) (*Gate, string) {
	return openWith(t, backend, nil)
}

func openWith(t *testing.T, backend http.HandlerFunc, bodies map[string]http.Handler) (*Gate, string) {
	return openAs(t, backend, Options{Bodies: bodies})
}

func openAs(t *testing.T, backend http.HandlerFunc, opts Options) (*Gate, string) {
	opts.Log = log.New(io.Discard, "", 0)
	inner := httptest.NewServer(backend)
	t.Cleanup(inner.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := Open([]net.Listener{l}, inner.Listener.Addr().String(), opts)
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	return g, "http://" + l.Addr().String()
}

func TestRequestsPassUntouched(t *testing.T) {
	_, u := open(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("X-Saw", strings.Join([]string{r.Method, r.URL.String(), r.Host, user, password, r.Header.Get("Accept-Encoding"), r.Header.Get("X-Forwarded-For")}, "|"))
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(body)
	})
	req, err := http.NewRequest(http.MethodPost, u+"/pins/ipfs/x?a=b;c&d=%2F", strings.NewReader("body"))
	require.NoError(t, err)
	req.Host = "cluster.example"
	req.SetBasicAuth("admin", "pw")
	req.Header.Set("Accept-Encoding", "identity")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, res.StatusCode)
	require.Equal(t, "body", string(body))
	require.Equal(t, "POST|/pins/ipfs/x?a=b;c&d=%2F|cluster.example|admin|pw|identity|", res.Header.Get("X-Saw"))
}

// conversation is a backend like the streaming add: it answers every line of
// the request before it reads the next one, and ends with a trailer.
func conversation(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	w.Header().Set("Trailer", "X-Cluster-Missing")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	_ = http.NewResponseController(w).EnableFullDuplex()
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		_, _ = io.WriteString(w, "got "+lines.Text()+"\n")
		w.(http.Flusher).Flush()
	}
	w.Header().Set("X-Cluster-Missing", "failed late")
}

type talk struct {
	t   *testing.T
	in  *io.PipeWriter
	res *http.Response
	out *bufio.Reader
}

func startTalk(t *testing.T, u string) *talk {
	in, w := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, u+"/add", in)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, res.Body.Close()) })
	require.True(t, res.Close, "the component's wish to close the connection is passed on")
	return &talk{t: t, in: w, res: res, out: bufio.NewReader(res.Body)}
}

func (c *talk) say(line string) {
	_, err := io.WriteString(c.in, line+"\n")
	require.NoError(c.t, err)
	got, err := c.out.ReadString('\n')
	require.NoError(c.t, err)
	require.Equal(c.t, "got "+line+"\n", got)
}

func (c *talk) end() {
	require.NoError(c.t, c.in.Close())
	_, err := c.out.ReadByte()
	require.ErrorIs(c.t, err, io.EOF)
	require.Equal(c.t, "failed late", c.res.Trailer.Get("X-Cluster-Missing"))
}

func TestBothDirectionsAtOnceAndTrailers(t *testing.T) {
	_, u := open(t, conversation)
	c := startTalk(t, u)
	for range 100 {
		c.say(strings.Repeat("x", 10_000))
	}
	c.end()
}

// TestAStreamThatIsNotWholeBreaksOff: some proxies, CloudFront among them, pass no trailers on.
func TestAStreamThatIsNotWholeBreaksOff(t *testing.T) {
	_, u := open(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Stream-Error")
		_, _ = io.WriteString(w, "{}\n")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Stream-Error", "")
		w.Header().Add("X-Stream-Error", r.URL.Query().Get("fail"))
	})
	for fail, want := range map[string]string{
		"": "{}\n", "late": "{}\n" + `{"error":"late","code":500}` + "\n", `a "b"`: "{}\n" + `{"error":"a \"b\"","code":500}` + "\n",
	} {
		res, err := http.Get(u + "/pins?fail=" + url.QueryEscape(fail))
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, res.Body.Close())
		require.Equal(t, want, string(body))
		if fail == "" {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}
	}
}

func TestDrainFinishesWhatIsInFlightAndRefusesTheRest(t *testing.T) {
	g, u := open(t, conversation)
	c := startTalk(t, u)
	c.say("before")

	drained := make(chan error, 1)
	go func() { drained <- g.Drain(context.Background()) }()
	require.Eventually(t, func() bool {
		res, err := http.Get(u + "/id")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "5"
	}, time.Minute, time.Millisecond)
	c.say("during")
	select {
	case err := <-drained:
		t.Fatal("drained with a request in flight", err)
	default:
	}
	c.end()
	require.NoError(t, <-drained)
	require.NoError(t, g.Drain(context.Background()), "again")
}

func TestDrainIsBounded(t *testing.T) {
	g, u := open(t, conversation)
	c := startTalk(t, u)
	c.say("before")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorContains(t, g.Drain(ctx), "1 requests were still running")
	c.end()
}

func TestAnIdleGateDrainsAtOnce(t *testing.T) {
	g, _ := open(t, conversation)
	require.NoError(t, g.Drain(context.Background()))
}

func TestABodyIsServedHereOnceTheComponentHasGrantedIt(t *testing.T) {
	served := 0
	_, u := openWith(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Empty(t, body, "the component sees the header only")
		w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		if _, password, _ := r.BasicAuth(); password != "pw" {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}, map[string]http.Handler{"/add": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served++
		w.Header().Set("Trailer", "X-Stream-Error")
		n, err := io.Copy(w, r.Body)
		require.NoError(t, err)
		require.EqualValues(t, 1<<20, n)
		w.Header().Set("X-Stream-Error", "failed late")
	})})
	post := func(password string) *http.Response {
		req, err := http.NewRequest(http.MethodPost, u+"/add?x=1", strings.NewReader(strings.Repeat("x", 1<<20)))
		require.NoError(t, err)
		req.SetBasicAuth("admin", password)
		req.Header.Set("Origin", "https://example.com")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, res.Body.Close()) })
		return res
	}
	res := post("wrong")
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	require.Equal(t, "Basic", res.Header.Get("WWW-Authenticate"))
	require.True(t, res.Close)
	require.Zero(t, served)

	res = post("pw")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "https://example.com", res.Header.Get("Access-Control-Allow-Origin"))
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Len(t, body, 1<<20)
	require.Equal(t, "failed late", res.Trailer.Get("X-Stream-Error"))
	require.Equal(t, 1, served)

	res, err = http.Get(u + "/add")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusUnauthorized, res.StatusCode, "other methods are the component's")
	require.Equal(t, 1, served)
}

// logged collects the lines of a log.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logged) last(t *testing.T, n int) string {
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.lines) == n
	}, time.Minute, time.Millisecond)
	return l.lines[n-1]
}

func TestTheGateAdmitsUsersAndWritesWhoCame(t *testing.T) {
	var lines logged
	_, u := openAs(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		require.Equal(t, "inner", password, "what the client sent goes no further")
		_, _ = io.WriteString(w, "hello "+user)
	}, Options{Guard: pass.New(map[string]string{"admin": "pw"}, []byte("secret"), ""), Inner: map[string]string{"admin": "inner"}, Requests: &lines})
	n := 0
	ask := func(method, path, authorization, forwarded string) (int, string) {
		req, err := http.NewRequest(method, u+path, nil)
		require.NoError(t, err)
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		if forwarded != "" {
			req.Header.Set("X-Forwarded-For", forwarded)
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		n++
		require.Equal(t, res.StatusCode == http.StatusUnauthorized, len(res.Header["Www-Authenticate"]) > 0)
		return res.StatusCode, string(body)
	}
	const right, wrong = "Basic YWRtaW46cHc=", "Basic YWRtaW46cHg="
	code, body := ask(http.MethodGet, "/id?a=b", right, "6.6.6.6, 203.0.113.9")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "hello admin", body)
	line := lines.last(t, n)
	require.Regexp(t, `^203\.0\.113\.9 - admin \[.*\] "GET /id\?a=b HTTP/1\.1" 200 11\n$`, line, "what is before the balancer's hop may be made up")
	for _, a := range []string{"", wrong, "Bearer x"} {
		code, body = ask(http.MethodPost, "/token", a, "")
		require.Equal(t, http.StatusUnauthorized, code)
		require.Contains(t, body, `"code":401`)
		require.Regexp(t, `^127\.0\.0\.1 - - \[.*\] "POST /token HTTP/1\.1" 401 `, lines.last(t, n))
	}
	code, body = ask(http.MethodPost, "/token?expires-in=1h", right, "[2001:db8::1]:443")
	require.Equal(t, http.StatusOK, code)
	require.Regexp(t, `^2001:db8::1 - admin `, lines.last(t, n))
	var issued struct{ Token string }
	require.NoError(t, json.Unmarshal([]byte(body), &issued))
	code, body = ask(http.MethodGet, "/id", "Bearer "+issued.Token, "bogus")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "hello admin", body)
	require.Regexp(t, `^127\.0\.0\.1 - admin `, lines.last(t, n))
	code, body = ask(http.MethodPost, "/token?expires-in=x", right, "")
	require.Equal(t, http.StatusBadRequest, code, body)
	code, _ = ask(http.MethodPost, "/token", "Bearer "+issued.Token, "")
	require.Equal(t, http.StatusBadRequest, code, "a token issues none")
}
