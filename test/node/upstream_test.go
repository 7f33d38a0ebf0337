package node

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A node that ends serves until its gateway is quiet, and that is told by two of kubo's
// metrics. Without them it would end after 3 s, whatever is under way.
func TestTheGatewayCountsWhatADrainLooksAt(t *testing.T) {
	n := newNode(t)
	n.run("init", "--profile", "test")
	d := n.daemon()
	d.ready()
	address, err := os.ReadFile(filepath.Join(n.dir, "gateway"))
	require.NoError(t, err)
	resp, err := http.Get(strings.TrimSpace(string(address)) + "/ipfs/bafkqaaa")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	code, metrics := d.get("/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Regexp(t, `(?m)^ipfs_http_gw_concurrent_requests\{?.* 0$`, metrics)
	require.Regexp(t, `(?m)^ipfs_http_requests_total\{.*handler="gateway".*\} [1-9]`, metrics)
	require.NoError(t, d.stop(syscall.SIGTERM))
}
