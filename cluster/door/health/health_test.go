package health

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
)

func get(t *testing.T, h http.Handler, path string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func readyz(t *testing.T, h http.Handler) (int, Report) {
	code, body := get(t, h, "/readyz")
	var r Report
	require.NoError(t, json.Unmarshal([]byte(body), &r))
	return code, r
}

func TestReadinessFollowsTheChecks(t *testing.T) {
	h := New("starting")
	reg := prometheus.NewRegistry()
	require.NoError(t, reg.Register(h))
	handler := h.Handler(reg)

	code, r := readyz(t, handler)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, Report{Checks: []Result{{Name: "process", Detail: "starting"}}}, r)
	code, _ = get(t, handler, "/livez")
	require.Equal(t, http.StatusOK, code, "alive, though not ready")

	var up atomic.Bool
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go h.Watch(ctx, time.Millisecond, time.Second,
		Check{"always", func(context.Context) Result { return Result{OK: true, Detail: "fine"} }},
		Check{"sometimes", func(context.Context) Result {
			return Result{OK: up.Load(), Detail: "as told", Missing: []string{"a-1"}}
		}},
	)
	require.Eventually(t, func() bool {
		code, r = readyz(t, handler)
		return len(r.Checks) == 2 && r.Checks[0].Detail == "fine" && r.Checks[1].Detail == "as told"
	}, time.Minute, time.Millisecond)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, Report{Checks: []Result{{Name: "always", OK: true, Detail: "fine"}, {Name: "sometimes", Detail: "as told", Missing: []string{"a-1"}}}}, r)

	up.Store(true)
	require.Eventually(t, func() bool { code, r = readyz(t, handler); return r.Ready }, time.Minute, time.Millisecond)
	require.Equal(t, http.StatusOK, code)
	_, metrics := get(t, handler, "/metrics")
	require.Contains(t, metrics, "cluster_aws_ready 1")
	require.Contains(t, metrics, `cluster_aws_check_ok{check="sometimes"} 1`)

	h.NotReady("shutting down")
	code, r = readyz(t, handler)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "shutting down", r.Checks[0].Detail)
}

func TestACheckThatHangsFailsAndDelaysNoAnswer(t *testing.T) {
	h := New("starting")
	handler := h.Handler(prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	running := make(chan struct{})
	go h.Watch(ctx, time.Hour, time.Millisecond,
		Check{"slow", func(ctx context.Context) Result {
			close(running)
			<-ctx.Done()
			return Result{Detail: ctx.Err().Error()}
		}})
	<-running
	require.Eventually(t, func() bool {
		_, r := readyz(t, handler)
		return len(r.Checks) == 1 && r.Checks[0].Detail == context.DeadlineExceeded.Error()
	}, time.Minute, time.Millisecond)
}

func TestNothingElseIsServed(t *testing.T) {
	handler := New("").Handler(prometheus.NewRegistry())
	for _, path := range []string{"/", "/debug/pprof/", "/debug/vars", "/id", "/pins"} {
		code, _ := get(t, handler, path)
		require.Equal(t, http.StatusNotFound, code, path)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/readyz", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
}

func TestServeAndClose(t *testing.T) {
	addr := ports.Address(t)
	taken, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	_, err = Serve(addr, New("").Handler(prometheus.NewRegistry()))
	require.ErrorContains(t, err, addr, "the port is taken")
	require.NoError(t, taken.Close())

	s, err := Serve(addr, New("starting").Handler(prometheus.NewRegistry()))
	require.NoError(t, err)
	res, err := http.Get("http://" + addr + "/livez")
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, "ok\n", string(body))
	require.NoError(t, s.Close())
}
