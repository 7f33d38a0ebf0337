package health

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"
)

func readyz(t *testing.T, checks ...check) (int, report) {
	t.Helper()
	rec := httptest.NewRecorder()
	handler(checks, func() bool { return false }).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	var rep report
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &rep))
	return rec.Code, rep
}

func TestReadyzNamesWhatIsMissing(t *testing.T) {
	fine := check{"node", func(context.Context) error { return nil }}
	down := check{"blockstore", func(context.Context) error { return errors.New("bucket gone") }}

	code, rep := readyz(t, fine)
	require.Equal(t, http.StatusOK, code)
	require.True(t, rep.Ready)

	code, rep = readyz(t, fine, down)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, report{Ready: false, Checks: []result{
		{Name: "node", OK: true},
		{Name: "blockstore", OK: false, Detail: "bucket gone"},
	}}, rep)
}

func TestLivezDoesNotLookAtChecks(t *testing.T) {
	rec := httptest.NewRecorder()
	h := handler([]check{{"node", func(context.Context) error { return errors.New("down") }}}, func() bool { return true })
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/livez", nil))
	require.Equal(t, http.StatusOK, rec.Code)
}

func TestReadyzOfANodeThatIsAboutToEndAsksNothing(t *testing.T) {
	rec := httptest.NewRecorder()
	asked := check{"gateway", func(context.Context) error { t.Error("asked"); return nil }}
	handler([]check{asked}, func() bool { return true }).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	require.Equal(t, http.StatusServiceUnavailable, rec.Code)
	require.Contains(t, rec.Body.String(), "shutting down")
}

func TestACheckThatHangsEndsWithTheRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	rep := runChecks(ctx, []check{{"blockstore", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}})
	require.False(t, rep.Ready)
}

type opinionated struct {
	datastore.Datastore
	err error
}

func (o opinionated) Check(context.Context) error { return o.err }

func TestDatastoreCheckAsksTheStore(t *testing.T) {
	down := errors.New("bucket b does not answer")
	require.ErrorIs(t, datastoreCheck(opinionated{err: down})(t.Context()), down)
	require.NoError(t, datastoreCheck(opinionated{})(t.Context()))
	require.NoError(t, datastoreCheck(datastore.NewMapDatastore())(t.Context()))
}

func TestGatewayCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gateway")
	run := gatewayCheck(file)
	require.ErrorContains(t, run(t.Context()), "does not listen yet")

	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "/ipfs/bafkqaaa", r.URL.Path)
		w.WriteHeader(status)
	}))
	defer srv.Close()
	require.NoError(t, os.WriteFile(file, []byte(srv.URL), 0o600))
	require.NoError(t, run(t.Context()))

	status = http.StatusBadGateway
	require.ErrorContains(t, run(t.Context()), "502")

	srv.Close() // as after kill -9: the address is still in the file
	require.ErrorIs(t, run(t.Context()), syscall.ECONNREFUSED)
}

func TestRepoCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "datastore_spec")
	run := repoCheck(file, os.Stat)
	require.ErrorIs(t, run(t.Context()), os.ErrNotExist)
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, run(t.Context()))
}

func TestRepoCheckOnAFileSystemThatHangs(t *testing.T) {
	release := make(chan struct{})
	var calls atomic.Int32
	run := repoCheck("datastore_spec", func(string) (os.FileInfo, error) {
		calls.Add(1)
		<-release
		return nil, nil
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, run(gone), "does not answer")
	require.ErrorContains(t, run(t.Context()), "does not answer", "a second look must not pile up behind the first")
	close(release)
	require.Eventually(t, func() bool { return run(t.Context()) == nil }, time.Minute, time.Millisecond)
	require.GreaterOrEqual(t, calls.Load(), int32(2))
}
