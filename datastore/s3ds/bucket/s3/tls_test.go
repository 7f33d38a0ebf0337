package s3bucket_test

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// TestCustomAuthority: with AWS_CA_BUNDLE the SDK wants to bring a transport of its own; ours has to trust the bundle all the same.
func TestCustomAuthority(t *testing.T) {
	server := s3test.Start(t)
	secure := httptest.NewTLSServer(s3test.NewProxy(t, server.URL))
	t.Cleanup(secure.Close)
	o := options(secure.URL, server.NewBucket(t))
	o.MaxAttempts = 1

	err := open(t, o).Check(t.Context())
	require.ErrorIs(t, err, bucket.ErrUnreachable)
	require.ErrorContains(t, err, "certificate")

	file := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	require.NoError(t, os.WriteFile(file, cert, 0o600))
	t.Setenv("AWS_CA_BUNDLE", file)
	require.NoError(t, open(t, o).Check(t.Context()))
}
