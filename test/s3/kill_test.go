package s3bill

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

// writers at the same time; every fourth adds files, the others put blocks.
const writers = 8

// acknowledged is what a daemon said it has: the content follows from the seed.
type acknowledged struct {
	cid  string
	seed uint64
	file bool
}

func content(seed uint64, isFile bool) []byte {
	r := rand.New(rand.NewPCG(seed, 9))
	size := 1 + r.IntN(20<<10)
	if isFile {
		size = 300<<10 + r.IntN(600<<10)
	}
	b := make([]byte, size)
	_, _ = random(seed).Read(b) // never fails
	return b
}

// upload posts content to the daemon, and returns the CID if it was
// acknowledged.
func (n *node) upload(api string, seed uint64, isFile bool) (acknowledged, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "data")
	if err != nil {
		return acknowledged{}, err
	}
	if _, err := part.Write(content(seed, isFile)); err != nil {
		return acknowledged{}, err
	}
	if err := form.Close(); err != nil {
		return acknowledged{}, err
	}
	path := "block/put"
	if isFile {
		path = "add?quieter=true&progress=false"
	}
	resp, err := http.Post(api+"/api/v0/"+path, form.FormDataContentType(), &body)
	if err != nil {
		return acknowledged{}, err
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return acknowledged{}, err
	}
	if err := resp.Body.Close(); err != nil {
		return acknowledged{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return acknowledged{}, fmt.Errorf("%s: %s", resp.Status, b)
	}
	var answer struct{ Key, Hash string }
	if err := json.Unmarshal(b, &answer); err != nil {
		return acknowledged{}, fmt.Errorf("%q: %w", b, err)
	}
	if trailer := resp.Trailer.Get("X-Stream-Error"); trailer != "" || answer.Key+answer.Hash == "" {
		return acknowledged{}, fmt.Errorf("%q: %s", b, trailer)
	}
	return acknowledged{answer.Key + answer.Hash, seed, isFile}, nil
}

// serves checks that everything acknowledged is there, and right.
func (n *node) serves(acks []acknowledged) {
	n.T.Helper()
	for _, a := range acks {
		path := "block/get"
		if a.file {
			path = "cat"
		}
		b, err := n.rpc(path, "arg", a.cid, "offline", "true")
		require.NoError(n.T, err, "%s was acknowledged: %s", a.cid, n.Logged())
		require.True(n.T, bytes.Equal(content(a.seed, a.file), b), "%s: other bytes than were acknowledged", a.cid)
	}
}

// TestKilledWhileWriting: whatever was acknowledged is there after kill -9: on
// the disk of the task, or, with durability "bucket", in the bucket alone.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for _, durability := range []string{"journal", "bucket"} {
		t.Run(durability, func(t *testing.T) {
			bucket := server.NewBucket(t)
			settings := map[string]any{"durability": durability, "sealAge": "200ms", "packSize": "1MiB", "cacheSize": "4MiB"}
			var n *node
			var acks []acknowledged
			random := gate.Random(t)
			seed := uint64(0)
			for round := range gate.Rounds(1, 1, 5) {
				if n == nil || durability == "bucket" {
					n = ours(t)
					n.initOurs(server.URL, bucket, "node-1", settings)
				}
				n.Start()
				n.serves(acks)

				var mu sync.Mutex
				var wg sync.WaitGroup
				api := n.API
				before, enough := len(acks), 20+random.IntN(200)
				reached := make(chan struct{})
				for w := range writers {
					wg.Go(func() {
						for {
							mu.Lock()
							seed++
							mine := seed
							mu.Unlock()
							a, err := n.upload(api, mine, w%4 == 0)
							if err != nil {
								return // the daemon was killed
							}
							mu.Lock()
							acks = append(acks, a)
							if len(acks) == before+enough {
								close(reached)
							}
							mu.Unlock()
						}
					})
				}
				select {
				case <-reached:
				case <-time.After(testnode.Patience):
					require.FailNow(t, "writers do not get on", n.Logged())
				}
				require.Error(t, n.End(syscall.SIGKILL))
				wg.Wait()
				t.Logf("round %d: %d acknowledged before the kill, %d in all", round, len(acks)-before, len(acks))
				if durability == "bucket" {
					require.NoError(t, os.RemoveAll(n.Dir))
					forgetOwner(t, filepath.Join(server.Dir, bucket, "node-1"))
				}
			}
			if durability == "bucket" {
				n = ours(t)
				n.initOurs(server.URL, bucket, "node-1", settings)
			}
			n.Start()
			n.serves(acks)
			n.Stop()
		})
	}
}
