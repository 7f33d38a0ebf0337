package settings

import (
	"encoding/base64"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/environ"
)

const (
	goodSecret = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	goodSeed   = "a seed of at least thirty-two bytes"
	otherID    = "12D3KooWPyfnCTs8bgyBKpvGPRqy3bGn9PtLQxQ5omDNcCgCtm8f"
)

// good is an environment with nothing wrong in it.
func good() map[string]string {
	return map[string]string{
		"CLUSTER_PEERNAME": "task-1",
		"CLUSTER_SECRET":   goodSecret,
		"CLUSTER_SEED":     goodSeed,
		"CLUSTER_PEERS":    "task-1=/dns4/one.internal/tcp/9096,task-2=/ip4/127.0.0.1/tcp/10196",
		"HOME":             "/nonexistent",
	}
}

func envList(env map[string]string) []string {
	var out []string
	for k, v := range env {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}

func with(changes map[string]string) []string {
	env := good()
	maps.Copy(env, changes)
	return envList(env)
}

func TestGoodSettings(t *testing.T) {
	s, err := Load(with(map[string]string{
		"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS": "/ip4/0.0.0.0/tcp/9094",
		"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS":   "admin:with:colons,other:pw",
		"CLUSTER_PINSVCAPI_ENABLED":              "true",
		"CLUSTER_HEALTH_ADDRESS":                 ":9098",
		"CLUSTER_READY_MIN_PEERS":                "2",
		"CLUSTER_SHUTDOWN_TIMEOUT":               "30s",
	}))
	require.NoError(t, err)
	require.Equal(t, "/nonexistent/.ipfs-cluster", string(s.Folder))
	require.Len(t, s.Secret, 32)
	require.Equal(t, map[string]string{"admin": "with:colons", "other": "pw"}, s.RESTCredentials)
	require.Equal(t, s.RESTCredentials, s.PinningCredentials)
	require.True(t, s.PinningService)
	require.Equal(t, 2, s.ReadyMinPeers)
	require.Equal(t, 30*time.Second, s.ShutdownTimeout)
	require.Empty(t, s.Warnings)

	require.Len(t, s.Peers, 2)
	require.Equal(t, s.Identity.ID, s.Peers[0].ID)
	require.Equal(t, "/dns4/one.internal/tcp/9096", s.Peers[0].Addr.String())
	other, err := s.Seed.Identity("task-2")
	require.NoError(t, err)
	require.Equal(t, []peer.ID{other.ID}, s.Trusted, "the computed peers and nobody else")
	require.False(t, s.TrustAll)
}

func TestDefaults(t *testing.T) {
	s, err := Load(envList(map[string]string{"CLUSTER_PEERNAME": "p", "CLUSTER_SECRET": goodSecret, "HOME": "/h"}))
	require.NoError(t, err)
	require.Equal(t, 1, s.ReadyMinPeers)
	require.Equal(t, 100*time.Second, s.ShutdownTimeout)
	require.Nil(t, s.Identity, "the folder's to keep")
	require.Empty(t, s.Trusted)
	require.False(t, s.TrustAll, "nobody but this peer, not everybody")
	require.False(t, s.PinningService)
}

// Every bad value gives exactly one problem, which names the variable, quotes
// the value unless it is a secret, and says what would be accepted.
func TestBadSettings(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	for _, c := range []struct {
		name, value string
		want        string
		also        map[string]string
	}{
		{"CLUSTER_SECRET", "", "64 hexadecimal digits", nil},
		{"CLUSTER_SECRET", "abcd", "64 hexadecimal digits", nil},
		{"CLUSTER_SECRET", strings.Repeat("g", 64), "64 hexadecimal digits", nil},
		{"CLUSTER_SECRET_FILE", "/nonexistent/file", "readable file", map[string]string{"CLUSTER_SECRET": ""}},
		{"CLUSTER_SECRET_FILE", empty, "empty file", map[string]string{"CLUSTER_SECRET": ""}},
		{"CLUSTER_SECRET_FILE", empty, "together with CLUSTER_SECRET", nil},
		{"CLUSTER_SEED", "too short", "needs at least 32", nil},
		{"CLUSTER_PEERS", "task-1", "name=multiaddress", nil},
		{"CLUSTER_PEERS", "task-1=nonsense", "multiaddress such as", nil},
		{"CLUSTER_PEERS", "task-1=/ip4/1.2.3.4/tcp/1,task-1=/ip4/1.2.3.4/tcp/2", "twice", nil},
		{"CLUSTER_PEERS", "task-2=/ip4/1.2.3.4/tcp/1", "does not name this peer", nil},
		{"CLUSTER_PEERS", "task-1=/ip4/1.2.3.4/tcp/1,task-2=/ip4/1.2.3.4/tcp/2/p2p/" + otherID, "not the ID that the seed gives", nil},
		{"CLUSTER_PEERS", "task-1=/ip4/1.2.3.4/tcp/1,task-2=/ip4/1.2.3.4/tcp/2", "no CLUSTER_SEED", map[string]string{"CLUSTER_SEED": ""}},
		{"CLUSTER_ID", otherID, "together with CLUSTER_SEED", nil},
		{"CLUSTER_ID", "", "set both, or neither", map[string]string{"CLUSTER_SEED": "", "CLUSTER_PEERS": "", "CLUSTER_PRIVATEKEY": "x"}},
		{"CLUSTER_PRIVATEKEY", "", "set both, or neither", map[string]string{"CLUSTER_SEED": "", "CLUSTER_PEERS": "", "CLUSTER_ID": otherID}},
		{"CLUSTER_PRIVATEKEY", "not-a-key", "private key in base64", map[string]string{"CLUSTER_SEED": "", "CLUSTER_PEERS": "", "CLUSTER_ID": otherID}},
		{"CLUSTER_CRDT_TRUSTEDPEERS", "*", "determines whom to trust", nil},
		{"CLUSTER_CRDT_TRUSTEDPEERS", "nobody", "peer IDs", nil},
		{"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS", "hunter2-secret", "no colon", nil},
		{"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS", "hunter2-secret:", "empty user or password", nil},
		{"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS", "/ip4/0.0.0.0/tcp/9094", "no credentials", nil},
		{"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS", "/ip6/::/tcp/9094", "no credentials", nil},
		{"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS", "/dns4/localhost/tcp/9094", "no credentials", nil},
		{"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS", "0.0.0.0:9094", "multiaddresses such as", nil},
		{"CLUSTER_RESTAPI_PRIVATEKEY", "hunter2-secret", "not supported", nil},
		{"CLUSTER_PINSVCAPI_ENABLED", "true", "needs credentials", nil},
		{"CLUSTER_PINSVCAPI_ENABLED", "perhaps", "true or false", nil},
		{"CLUSTER_HEALTH_ADDRESS", "9098", "host:port", nil},
		{"CLUSTER_HEALTH_ADDRESS", "127.0.0.1:99999", "host:port", nil},
		{"CLUSTER_READY_MIN_PEERS", "0", "1 or more", nil},
		{"CLUSTER_READY_MIN_PEERS", "3", "at most the number of peers", nil},
		{"CLUSTER_SHUTDOWN_TIMEOUT", "100", "a duration", nil},
		{"CLUSTER_LOGLEVEL", "loud", "one of: debug, info, warn, error", nil},
		{"CLUSTER_PEERNAME", "a b", "must not contain", map[string]string{"CLUSTER_PEERS": ""}},
		{"CLUSTER_REPLICATIONFACTORMIN", "two", "-1 (every peer)", map[string]string{"CLUSTER_REPLICATIONFACTORMAX": "3"}},
		{"CLUSTER_REPLICATIONFACTORMIN", "3", "not be above", map[string]string{"CLUSTER_REPLICATIONFACTORMAX": "2"}},
		{"CLUSTER_REPLICATIONFACTORMIN", "2", "together with", nil},
		{"CLUSTER_CRDT_BATCHING_MAXBATCHSIZE", "0", "1 or more", nil},
		{"CLUSTER_LEAVEONSHUTDOWN", "true", "deletes this peer's copy", nil},
		{"CLUSTER_IPFSHTTP_NODEMULTIADDRESS", "127.0.0.1:5001", "a multiaddress such as", nil},
		{"CLUSTER_CRDT_REBROADCASTINTERVAL", "0s", "above zero", nil},
		{"CLUSTER_DISK_METRICTYPE", "inodes", "one of: freespace, reposize", nil},
		{"CLUSTER_TAGS_TAGS", "az", "pairs", nil},
		{"CLUSTER_PEERADDRESSES", "/ip4/1.2.3.4/tcp/1", "end in /p2p/", nil},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			env := good()
			env[c.name] = c.value
			maps.Copy(env, c.also)
			_, err := Load(envList(env))
			var problems environ.Problems
			require.True(t, errors.As(err, &problems), "%v", err)
			require.Len(t, problems, 1, "%v", err)
			require.Contains(t, problems[0].Name, strings.TrimSuffix(c.name, "_FILE"))
			require.Contains(t, err.Error(), c.want)
			require.NotContains(t, err.Error(), "\n", "one line")
			require.NotContains(t, err.Error(), "hunter2", "a secret")
			for _, secret := range Secrets {
				if v := env[secret]; len(v) > 4 {
					require.NotContains(t, err.Error(), v, "a secret")
				}
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := Load(with(map[string]string{
		"CLUSTER_SECRET":                         "abcd",
		"CLUSTER_SEED":                           "short",
		"CLUSTER_HEALTH_ADDRESS":                 "x",
		"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS":   "nocolon",
		"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS": "/ip4/0.0.0.0/tcp/9094",
		"CLUSTER_IPFSHTTP_PINTIMEOUT":            "soon",
		"CLUSTER_STATELESS_CONCURRENTPINS":       "0",
	}))
	var problems environ.Problems
	require.True(t, errors.As(err, &problems))
	var names []string
	for _, p := range problems {
		names = append(names, p.Name)
	}
	require.ElementsMatch(t, []string{
		"CLUSTER_SECRET", "CLUSTER_SEED", "CLUSTER_HEALTH_ADDRESS", "CLUSTER_RESTAPI_BASICAUTHCREDENTIALS",
		"CLUSTER_IPFSHTTP_PINTIMEOUT", "CLUSTER_STATELESS_CONCURRENTPINS",
	}, names)
}

func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	fromFiles, err := Load(with(map[string]string{
		"CLUSTER_SECRET": "", "CLUSTER_SECRET_FILE": file("secret", goodSecret+"\n"),
		"CLUSTER_SEED": "", "CLUSTER_SEED_FILE": file("seed", goodSeed+"\r\n"),
		"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS_FILE": file("credentials", "a:b\nc:d\n"),
		"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS":    "/ip4/0.0.0.0/tcp/9094",
	}))
	require.NoError(t, err)
	fromEnv, err := Load(envList(good()))
	require.NoError(t, err)
	require.Equal(t, fromEnv.Identity.ID, fromFiles.Identity.ID)
	require.Equal(t, fromEnv.Secret, fromFiles.Secret)
	require.Equal(t, map[string]string{"a": "b", "c": "d"}, fromFiles.RESTCredentials)
}

func TestIdentityFromVariables(t *testing.T) {
	key, _, err := crypto.GenerateEd25519Key(nil)
	require.NoError(t, err)
	raw, err := crypto.MarshalPrivateKey(key)
	require.NoError(t, err)
	id, err := peer.IDFromPrivateKey(key)
	require.NoError(t, err)
	env := map[string]string{
		"CLUSTER_SEED": "", "CLUSTER_PEERS": "task-1=/ip4/1.2.3.4/tcp/1,task-2=/ip4/1.2.3.4/tcp/2/p2p/" + otherID,
		"CLUSTER_ID": id.String(), "CLUSTER_PRIVATEKEY": base64.StdEncoding.EncodeToString(raw),
	}
	s, err := Load(with(env))
	require.NoError(t, err)
	require.Equal(t, id, s.Identity.ID)
	require.Len(t, s.Trusted, 1)

	env["CLUSTER_ID"] = otherID
	_, err = Load(with(env))
	require.ErrorContains(t, err, "is not the ID of the key")
}

func TestLoopbackNeedsNoCredentials(t *testing.T) {
	for _, a := range []string{"/ip4/127.0.0.1/tcp/9094", "/ip6/::1/tcp/9094", "/ip4/127.1.2.3/tcp/1"} {
		_, err := Load(with(map[string]string{"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS": a}))
		require.NoError(t, err, a)
	}
}

func TestWarnings(t *testing.T) {
	s, err := Load(with(map[string]string{
		"CLUSTER_REPLICATIONFACTOR":                "2",
		"CLUSTER_IPFSPROXY_LISTENMULTIADDRESS":     "/ip4/0.0.0.0/tcp/9095",
		"CLUSTER_METRICS_ENABLESTATS":              "true",
		"CLUSTER_PINSVCAPI_HTTPLISTENMULTIADDRESS": "/ip4/0.0.0.0/tcp/9097",
	}))
	require.NoError(t, err)
	all := strings.Join(s.Warnings, "\n")
	for _, want := range []string{"CLUSTER_REPLICATIONFACTOR has no effect: no setting", "IPFSPROXY_LISTENMULTIADDRESS has no effect", "CLUSTER_METRICS_ENABLESTATS has no effect", "CLUSTER_PINSVCAPI_ENABLED=true switches it on"} {
		require.Contains(t, all, want)
	}
	require.Len(t, s.Warnings, 4)

	s, err = Load(with(map[string]string{"CLUSTER_SEED": "", "CLUSTER_PEERS": "", "CLUSTER_CRDT_TRUSTEDPEERS": "*"}))
	require.NoError(t, err)
	require.True(t, s.TrustAll)
	require.Contains(t, strings.Join(s.Warnings, ""), "can change the pinset")
}

func TestLoadNames(t *testing.T) {
	seed, names, err := LoadNames(envList(good()))
	require.NoError(t, err)
	require.False(t, seed.IsZero())
	require.Equal(t, []string{"task-1", "task-2"}, names)
	_, _, err = LoadNames(nil)
	require.ErrorContains(t, err, "CLUSTER_SEED")
}

func TestTakeSecrets(t *testing.T) {
	t.Setenv("CLUSTER_SECRET", goodSecret)
	t.Setenv("CLUSTER_PEERNAME", "kept")
	require.NoError(t, TakeSecrets())
	_, found := os.LookupEnv("CLUSTER_SECRET")
	require.False(t, found)
	require.Equal(t, "kept", os.Getenv("CLUSTER_PEERNAME"))
}

// Every setting that ipfs-cluster does not have, and every one that is read here,
// is in the reference.
func TestEverySettingIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/cluster.md")
	require.NoError(t, err)
	for _, name := range append(slices.Clone(Secrets), own...) {
		require.Contains(t, string(text), "`"+name+"`")
	}
}

func TestAnUnknownNameIsToldWithTheNearest(t *testing.T) {
	s, err := Load(with(map[string]string{"CLUSTER_PEER_NAME": "x"}))
	require.NoError(t, err)
	require.Contains(t, s.Warnings, "CLUSTER_PEER_NAME has no effect: no setting has this name; did you mean CLUSTER_PEERNAME?")
}
