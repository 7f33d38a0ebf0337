package s3bill

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

// node is a repo and the program that works on it.
type node struct{ *testnode.Node }

// ours is the built ipfs-aws.
func ours(t *testing.T) *node {
	return &node{testnode.New(t, testnode.Ours(t), "IPFS_GC_MIN_AGE=0s")} // as kubo collects
}

// stock is kubo with go-ds-s3.
func stock(t *testing.T) *node {
	bin, err := os.Executable()
	require.NoError(t, err)
	return &node{testnode.New(t, bin, roleEnv+"="+roleKubo)}
}

// s3Store are settings of a store that both programs understand.
func s3Store(endpoint, bucket, prefix string) map[string]any {
	return map[string]any{
		"type": "s3ds", "mountpoint": "/blocks", "region": s3test.Region, "bucket": bucket, "rootDirectory": prefix,
		"regionEndpoint": endpoint, "accessKey": s3test.AccessKey, "secretKey": s3test.SecretKey,
	}
}

// initOurs makes a repo in the bucket as a user does.
func (n *node) initOurs(endpoint, bucket, prefix string, edit map[string]any) {
	n.T.Helper()
	n.Run("init", "--blockstore", "s3", "--bucket", bucket, "--endpoint", endpoint, "--region", s3test.Region, "--prefix", prefix, "--profile", "test")
	n.edit(func(store map[string]any) {
		for k, v := range edit {
			store[k] = v
		}
	})
}

// initStock makes a repo, and moves its empty store into the bucket.
func (n *node) initStock(endpoint, bucket string) {
	n.T.Helper()
	n.Run("init", "--profile", "test", "--empty-repo")
	store := s3Store(endpoint, bucket, "")
	n.edit(func(old map[string]any) {
		clear(old)
		for k, v := range store {
			old[k] = v
		}
	})
	spec, err := os.ReadFile(filepath.Join(n.Dir, "datastore_spec"))
	require.NoError(n.T, err)
	var disk map[string]any
	require.NoError(n.T, json.Unmarshal(spec, &disk))
	disk["mounts"].([]any)[0] = map[string]any{"mountpoint": "/blocks", "region": s3test.Region, "bucket": bucket, "rootDirectory": ""}
	spec, err = json.Marshal(disk)
	require.NoError(n.T, err)
	require.NoError(n.T, os.WriteFile(filepath.Join(n.Dir, "datastore_spec"), spec, 0o600))
}

// edit changes the settings of the store of the blocks, in the config file.
func (n *node) edit(change func(store map[string]any)) {
	n.T.Helper()
	path := filepath.Join(n.Dir, "config")
	b, err := os.ReadFile(path)
	require.NoError(n.T, err)
	var cfg map[string]any
	require.NoError(n.T, json.Unmarshal(b, &cfg))
	store := cfg["Datastore"].(map[string]any)["Spec"].(map[string]any)["mounts"].([]any)[0].(map[string]any)
	require.Equal(n.T, "/blocks", store["mountpoint"])
	change(store)
	b, err = json.Marshal(cfg)
	require.NoError(n.T, err)
	require.NoError(n.T, os.WriteFile(path, b, 0o600))
}

// rpc posts to the daemon and returns the answer.
func (n *node) rpc(path string, args ...string) ([]byte, error) {
	q := url.Values{}
	for i := 0; i+1 < len(args); i += 2 {
		q.Add(args[i], args[i+1])
	}
	resp, err := http.Post(n.API+"/api/v0/"+path+"?"+q.Encode(), "", nil)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", resp.Status, b)
	}
	return b, nil
}

// stat is what the tests look at of `datastore stat`.
type stat struct {
	Layout        string
	Blocks, Bytes int64
	Packs         struct{ Objects, LiveBlocks, DeadBytes int64 }
	Loose         struct{ Blocks int64 }
	Journal       struct{ Blocks int64 }
	Nodes         struct{ Waiting int }
	Compaction    struct{ RemovedPacks, MergedPacks int64 }
	Owner         struct {
		ID    string
		Epoch int64
	}
	Dollars  float64
	Problems []string
}

func (n *node) stat() stat {
	n.T.Helper()
	b, err := n.rpc("datastore/stat")
	require.NoError(n.T, err)
	var s stat
	require.NoError(n.T, json.Unmarshal(b, &s))
	return s
}

// drained waits until the bucket has everything.
func (n *node) drained() {
	n.T.Helper()
	require.Eventually(n.T, func() bool {
		s := n.stat()
		return s.Journal.Blocks == 0 && s.Nodes.Waiting == 0
	}, testnode.Patience, 100*time.Millisecond, "the journal is not uploaded")
}

// swallow reads a URL and returns how many bytes there were.
func swallow(t *testing.T, rawURL string, header ...string) int64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, rawURL, nil)
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Less(t, resp.StatusCode, 300)
	size, err := io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	return size
}

// sameOutput runs a command whose standard output must be the content of a file.
func (n *node) sameOutput(file string, args ...string) {
	n.T.Helper()
	f, err := os.Open(file)
	require.NoError(n.T, err)
	defer func() { _ = f.Close() }()
	cmd := n.Command(args...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.StdoutPipe()
	require.NoError(n.T, err)
	require.NoError(n.T, cmd.Start())
	same := equalReaders(f, out)
	_, err = io.Copy(io.Discard, out)
	require.NoError(n.T, err)
	require.NoError(n.T, cmd.Wait(), "ipfs %s: %s", strings.Join(args, " "), errOut.String())
	require.True(n.T, same, "ipfs %s: other bytes than were added", strings.Join(args, " "))
}

func equalReaders(a, b io.Reader) bool {
	var x, y [64 << 10]byte
	for {
		n, errA := io.ReadFull(a, x[:])
		m, errB := io.ReadFull(b, y[:])
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false
		}
		if errA != nil || errB != nil {
			return errA != nil && errB != nil
		}
	}
}
