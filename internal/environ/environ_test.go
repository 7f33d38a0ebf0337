package environ

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAllProblemsAreReportedAtOnceAndSecretsAreNot(t *testing.T) {
	dir := t.TempDir()
	empty, secret := filepath.Join(dir, "empty"), filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(empty, []byte(" \n"), 0o600))
	require.NoError(t, os.WriteFile(secret, []byte("  hidden\n"), 0o600))
	r := New([]string{
		"N=-1", "D=never", "C=LOUD", "A=8099", "GOOD=5m", "NOTHING=",
		"BOTH=topsecret", "BOTH_FILE=" + secret, "MISSING_FILE=" + filepath.Join(dir, "none"), "EMPTY_FILE=" + empty, "S_FILE=" + secret,
	})
	require.EqualValues(t, 3, r.Number("N", 3, IsPositive))
	require.Equal(t, time.Second, r.Duration("D", time.Second))
	require.Equal(t, "info", r.Choice("C", "info", []string{"info", "debug"}))
	r.HostPort("A")
	require.Equal(t, 5*time.Minute, r.Duration("GOOD", 0))
	require.EqualValues(t, 7, r.Number("NOTHING", 7, IsPositive), "set but empty is not set")
	for _, name := range []string{"BOTH", "MISSING", "EMPTY"} {
		require.True(t, r.Given(name))
		value, _ := r.Secret(name)
		require.Empty(t, value)
	}
	value, from := r.Secret("S")
	require.Equal(t, "hidden", value)
	require.Equal(t, "S_FILE", from)

	err := r.Err()
	require.Equal(t, 7, r.Problems())
	for _, line := range []string{
		`N="-1": must be a whole number, 1 or more`,
		`D="never": must be a duration above zero`,
		`C="loud": must be one of: info, debug`,
		`A="8099": must be host:port`,
		`BOTH_FILE="` + secret + `": is set together with BOTH`,
		`MISSING_FILE="` + filepath.Join(dir, "none") + `": must name a readable file`,
		`EMPTY_FILE="` + empty + `": names an empty file`,
	} {
		require.ErrorContains(t, err, line)
	}
	require.NotContains(t, err.Error(), "topsecret")
	require.NoError(t, New(nil).Err())
}

func TestNearest(t *testing.T) {
	known := []string{"IPFS_S3_BUCKET", "IPFS_S3_REGION", "IPFS_S3_PREFIX", "IPFS_BLOCKSTORE"}
	for name, want := range map[string]string{
		"IPFS_S3_BUKET":   "IPFS_S3_BUCKET",
		"IPFS_S3_bucket":  "IPFS_S3_BUCKET",
		"IPFS_S3_PREFFIX": "IPFS_S3_PREFIX",
		"IPFS_BLOCKSTOR":  "IPFS_BLOCKSTORE",
		"IPFS_GATEWAY":    "",
		"HOME":            "",
	} {
		got, ok := Nearest(name, known)
		require.Equal(t, want, got, name)
		require.Equal(t, want != "", ok, name)
	}
}

func TestTakeRemovesSecrets(t *testing.T) {
	t.Setenv("ENVIRON_TEST_SECRET", "x")
	require.NoError(t, Take("ENVIRON_TEST_SECRET"))
	_, set := os.LookupEnv("ENVIRON_TEST_SECRET")
	require.False(t, set)
}
