package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// rpc is the URL of a command of the daemon's RPC.
func (n *node) rpc(path string, args ...string) string {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dir, "api"))
	require.NoError(n.t, err)
	parts := strings.Split(strings.TrimSpace(string(b)), "/") // /ip4/127.0.0.1/tcp/5001
	require.Len(n.t, parts, 5)
	q := url.Values{}
	for i := 0; i < len(args); i += 2 {
		q.Add(args[i], args[i+1])
	}
	return "http://" + parts[2] + ":" + parts[4] + "/api/v0/" + path + "?" + q.Encode()
}

func (n *node) cat(cid string) []byte {
	n.t.Helper()
	resp, err := http.Post(n.rpc("cat", "arg", cid, "offline", "true"), "", nil)
	require.NoError(n.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(n.t, err)
	require.Equal(n.t, http.StatusOK, resp.StatusCode, "%s was added: %s", cid, b)
	return b
}

// fileContent is that of file i of a tree: most are one block, some are several.
func fileContent(seed uint64, i int) []byte {
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	size := 1 + r.IntN(8<<10)
	if i%100 == 99 {
		size = 300<<10 + r.IntN(600<<10)
	}
	b := make([]byte, size)
	for j := range b {
		b[j] = byte(r.Uint32())
	}
	return b
}

// endlessTree writes an `add -r` of a folder that has always one more file, until
// the other side is gone.
func endlessTree(w *io.PipeWriter, form *multipart.Writer, seed uint64) {
	part := func(name, typ string, content []byte) error {
		p, err := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name="file"; filename=%q`, url.QueryEscape(name))},
			"Content-Type":        {typ},
		})
		if err == nil {
			_, err = p.Write(content)
		}
		return err
	}
	err := part("tree", "application/x-directory", nil)
	for i := 0; err == nil; i++ {
		err = part(fmt.Sprintf("tree/%06d", i), "application/octet-stream", fileContent(seed, i))
	}
	w.CloseWithError(err)
}

// A daemon is killed in the middle of an `ipfs add -r`. Each file that the
// client had been told of is there afterwards, in every blockstore. Takes some 5
// seconds a round.
func TestKilledWhileAdding(t *testing.T) {
	s := s3test.Start(t)
	for _, blockstore := range []string{"flatfs", "efs", "s3"} {
		t.Run(blockstore, func(t *testing.T) {
			n := s3Node(t)
			if blockstore == "s3" {
				n.run(initS3(s.URL, s.NewBucket(t), "--prefix", "node-1")...)
			} else {
				n.run("init", "--blockstore", blockstore, "--profile", "test")
			}
			random := gate.Random(t)
			for round := range gate.Rounds(1, 1, 5) {
				d := n.daemon()
				seed := random.Uint64()
				added := d.addAndKill(seed, 20+random.IntN(1500))
				t.Logf("round %d: %d files were added", round, len(added))

				d = n.daemon()
				for i, cid := range added {
					require.True(t, bytes.Equal(fileContent(seed, i), n.cat(cid)), "%s, file %d of seed %d", cid, i, seed)
				}
				require.NoError(t, d.stop(syscall.SIGTERM))
			}
			require.Contains(t, n.run("repo", "verify"), "verify complete")
		})
	}
}

// addAndKill kills the daemon when it has told of so many files, and returns the
// CIDs of all it told of by then.
func (d *daemon) addAndKill(seed uint64, enough int) map[int]string {
	d.t.Helper()
	body, w := io.Pipe()
	form := multipart.NewWriter(w)
	go endlessTree(w, form, seed)
	resp, err := http.Post(d.rpc("add", "progress", "false", "cid-version", "1"), form.FormDataContentType(), body)
	require.NoError(d.t, err)
	defer resp.Body.Close()
	require.Equal(d.t, http.StatusOK, resp.StatusCode)
	added := map[int]string{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var event struct{ Name, Hash string }
		require.NoError(d.t, json.Unmarshal(lines.Bytes(), &event))
		i, err := strconv.Atoi(strings.TrimPrefix(event.Name, "tree/"))
		require.NoError(d.t, err, event.Name)
		added[i] = event.Hash
		if len(added) == enough {
			require.NoError(d.t, d.cmd.Process.Kill())
		}
	}
	<-d.exited
	require.NoError(d.t, body.Close())
	require.GreaterOrEqual(d.t, len(added), enough)
	return added
}

// smallTree writes files of 100 bytes that are in no other tree.
func smallTree(t *testing.T, files int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	seed := gate.Random(t).Uint64()
	for i := range files {
		content := fmt.Sprintf("%016x%084x", seed, i)
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%04d", i)), []byte(content), 0o600))
	}
	return dir
}

// A write that fails makes the add fail with its error. No pin is recorded, and
// the files that were told of are there.
func TestAnAddFailsWithItsWrites(t *testing.T) {
	for _, blockstore := range []string{"flatfs", "efs"} {
		t.Run(blockstore, func(t *testing.T) {
			n := newNode(t)
			n.run("init", "--blockstore", blockstore, "--profile", "test", "--empty-repo")
			d := n.daemon()
			before := n.run("pin", "ls", "--type=recursive")
			// One folder in 32 cannot be made: a file is in its place.
			const base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
			spoilt := 0
			for _, c := range base32 {
				err := os.WriteFile(filepath.Join(n.dir, "blocks", string(c)+"Q"), nil, 0o600)
				if err == nil {
					spoilt++
				}
			}
			require.Greater(t, spoilt, 20)

			// Together the files are less than what an HTTP server reads of a
			// request that it has answered (256 KiB in net/http). Beyond that it
			// closes the connection, and kubo's client may see that first.
			dir := smallTree(t, 400)
			cmd := n.command("add", "-r", "--cid-version=1", dir)
			var out, errOut bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errOut
			require.Error(t, cmd.Run())
			require.Contains(t, errOut.String(), filepath.Join(n.dir, "blocks"))
			require.Contains(t, errOut.String(), "not a directory")
			require.Equal(t, before, n.run("pin", "ls", "--type=recursive"))
			for line := range strings.Lines(out.String()) {
				fields := strings.Fields(line) // added <CID> tree/sub/0001
				require.Len(t, fields, 3, line)
				want, err := os.ReadFile(filepath.Join(filepath.Dir(dir), fields[2]))
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, n.cat(fields[1])), line)
			}

			// When the folders can be made, so can an add of the same.
			require.NoError(t, d.stop(syscall.SIGTERM))
			for _, c := range base32 {
				path := filepath.Join(n.dir, "blocks", string(c)+"Q")
				if fi, err := os.Stat(path); err == nil && !fi.IsDir() {
					require.NoError(t, os.Remove(path))
				}
			}
			root := n.run("add", "-r", "-Q", "--cid-version=1", dir)
			require.Contains(t, n.run("pin", "ls", "--type=recursive"), root)
			require.Contains(t, n.run("repo", "verify"), "verify complete")
		})
	}
}
