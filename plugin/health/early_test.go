package health

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
)

func ask(t *testing.T, address, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

// A process without a node is alive and not ready; its node takes over without a gap.
func TestAliveBeforeThereIsANode(t *testing.T) {
	defer func() { early.listener, early.ended = nil, false }()
	address := ports.Address(t)
	former, err := net.Listen("tcp", address) // the process before this one has not ended yet
	require.NoError(t, err)
	Open(address)
	Open(address) // `container` and the daemon that it becomes
	require.NoError(t, former.Close())
	require.Eventually(t, func() bool { code, _ := ask(t, address, "/livez"); return code == http.StatusOK }, time.Minute, 10*time.Millisecond)
	code, says := ask(t, address, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, says, `"starting"`)
	code, _ = ask(t, address, "/metrics")
	require.Equal(t, http.StatusNotFound, code)

	l := take(address)
	require.NotNil(t, l)
	defer l.server.Close()
	l.serve(handler(nil, func() bool { return false }))
	code, _ = ask(t, address, "/readyz")
	require.Equal(t, http.StatusOK, code)
	require.Nil(t, take(address), "it is taken once")
	require.True(t, open(address), "and not opened again")
}

// A node that listens elsewhere closes what Open has.
func TestTheNodeMayListenElsewhere(t *testing.T) {
	defer func() { early.listener, early.ended = nil, false }()
	address := ports.Address(t)
	require.True(t, open(address))
	require.Nil(t, take(ports.Address(t)))
	code, _ := ask(t, address, "/livez")
	require.Zero(t, code)
}
