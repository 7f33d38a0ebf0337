package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/ipfs/boxo/files"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// s3Requests counts what slowS3 is asked, by method.
var s3Requests struct {
	sync.Mutex
	count map[string]int
}

// takeS3Requests returns the counts since the last call.
func takeS3Requests() map[string]int {
	s3Requests.Lock()
	defer s3Requests.Unlock()
	out := s3Requests.count
	s3Requests.count = map[string]int{}
	return out
}

// slowS3 is a bucket that is as far away as S3: the first byte of an answer
// takes a lognormal time, in the median 40 ms for a PUT and 25 ms for a GET or
// HEAD.
func slowS3(t *testing.T) (endpoint, bucket string) {
	server := s3test.Start(t)
	client := s3.New(s3.Options{BaseEndpoint: aws.String(server.URL), Region: s3test.Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s3test.AccessKey, s3test.SecretKey, "")})
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("blocks")})
	require.NoError(t, err)
	target, err := url.Parse(server.URL)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true},
	}
	takeS3Requests()
	median := map[string]float64{http.MethodPut: 40, http.MethodGet: 25, http.MethodHead: 25}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s3Requests.Lock()
		s3Requests.count[r.Method]++
		s3Requests.Unlock()
		first := time.Duration(median[r.Method] * math.Exp(0.3*rand.NormFloat64()) * float64(time.Millisecond))
		select {
		case <-time.After(first): // the model of the network
		case <-r.Context().Done():
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL, "blocks"
}

// onS3 makes the tasks' nodes keep their blocks in a slow bucket.
func onS3(t *testing.T) options {
	endpoint, bucket := slowS3(t)
	return options{names: three(), node: onStores(endpoint, bucket, func(string) string { return "s3" })}
}

// onStores says how to initialise nodes with blockstores of the kinds that of names.
func onStores(endpoint, bucket string, of func(name string) string) func(name string) (args, env []string) {
	return func(name string) (args, env []string) {
		args = []string{"--blockstore", of(name)}
		if of(name) == "s3" {
			args = append(args, "--bucket", bucket, "--region", s3test.Region, "--endpoint", endpoint, "--prefix", name)
		}
		return args, []string{"AWS_ACCESS_KEY_ID=" + s3test.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3test.SecretKey}
	}
}

// oneOfEach gives the three tasks blockstores of three kinds.
func oneOfEach(name string) string {
	return map[string]string{"task-1": "s3", "task-2": "efs", "task-3": "flatfs"}[name]
}

// tree writes a folder of files with random content and returns its path.
func tree(t *testing.T, count, low, high int, seed byte) string {
	dir := filepath.Join(t.TempDir(), "tree")
	require.NoError(t, os.Mkdir(dir, 0o700))
	random := rand.NewChaCha8([32]byte{seed})
	r := rand.New(random)
	for i := range count {
		b := make([]byte, low+r.IntN(high-low+1))
		_, _ = random.Read(b) // never fails
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%05d", i)), b, 0o600))
	}
	return dir
}

type addedObject struct {
	Name    string `json:"name"`
	Cid     string `json:"cid"`
	Error   string `json:"error"` // of an add that has failed
	Missing []struct {
		Name  string `json:"peername"`
		Error string `json:"error"`
	} `json:"missing"`
}

// add adds a folder through the REST API and returns the last object of the
// answer, which is the folder's.
func (k *task) add(dir string) (addedObject, http.Header, error) { return k.addWith(dir, "") }

// addWith adds with more parameters than add.
func (k *task) addWith(dir, parameters string) (addedObject, http.Header, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return addedObject{}, nil, err
	}
	node, err := files.NewSerialFile(dir, false, st)
	if err != nil {
		return addedObject{}, nil, err
	}
	body := files.NewMultiFileReader(files.NewMapDirectory(map[string]files.Node{"tree": node}), true, false)
	req, err := http.NewRequest(http.MethodPost, k.api+"/add?stream-channels=true&raw-leaves=true&cid-version=1&chunker=size-262144"+parameters, body)
	if err != nil {
		return addedObject{}, nil, err
	}
	req.Header.Set("Content-Type", "multipart/form-data; boundary="+body.Boundary())
	req.SetBasicAuth(user, password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return addedObject{}, nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		return addedObject{}, nil, fmt.Errorf("%s: %s", res.Status, text)
	}
	var last addedObject
	for dec := json.NewDecoder(res.Body); ; {
		var one addedObject
		err := dec.Decode(&one)
		if err == io.EOF {
			break
		}
		if err != nil {
			return last, nil, err
		}
		if one.Error != "" {
			return last, nil, errors.New(one.Error)
		}
		last = one
	}
	return last, res.Trailer, nil
}

// localBlocks counts the blocks below a CID in the node's own store.
func (k *task) localBlocks(cid string) (int, error) {
	res, err := http.Post(k.rpc+"/api/v0/dag/stat?progress=false&offline=true&arg="+cid, "", nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s %w", res.Status, body, err)
	}
	var stat struct{ UniqueBlocks int }
	return stat.UniqueBlocks, json.Unmarshal(body, &stat)
}

// TestAddsHoldEverywhereWhenAnswered adds trees of both shapes to three nodes on
// a bucket that is far away, and compares with an add to one node.
func TestAddsHoldEverywhereWhenAnswered(t *testing.T) {
	big := scale(t, "CLUSTER_TEST_ADD_MIB", 16) << 20
	small := scale(t, "CLUSTER_TEST_ADD_FILES", 200)
	all := tasks(t, onS3(t))
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)
	for _, shape := range []struct {
		name             string
		count, low, high int
	}{
		{"one big file", 1, big, big},
		{"many small files", small, 1 << 10, 50 << 10},
	} {
		alone := tree(t, shape.count, shape.low, shape.high, 1)
		cmd := proc.Command(binary(t, "ipfs-aws"), "add", "-r", "-Q", "--raw-leaves", "--cid-version=1", "--chunker=size-262144", alone)
		cmd.Env = all[0].node.env
		before := takeProcessorTime()
		began := time.Now()
		out, err := cmd.Output()
		one := time.Since(began)
		usedByOne := takeProcessorTime().since(before)
		require.NoError(t, err, string(out))
		usedByOne["ipfs add"] = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()

		second := tree(t, shape.count, shape.low, shape.high, 2)
		takeS3Requests()
		before = takeProcessorTime()
		began = time.Now()
		last, _, err := all[0].add(second)
		three := time.Since(began)
		usedByThree := takeProcessorTime().since(before)
		requests := takeS3Requests()
		require.NoError(t, err)
		require.Equal(t, "tree", last.Name)
		require.Empty(t, last.Missing)
		first := 0
		for i, k := range all {
			n, err := k.localBlocks(last.Cid)
			require.NoError(t, err, "%s does not hold the content although the add was answered", k.name)
			require.Greater(t, n, shape.count)
			if i == 0 {
				first = n
			}
			require.Equal(t, first, n)
		}
		t.Logf("%s, %d bytes at most: ipfs add to one node %.1f s, cluster add to three %.1f s (%.2f×), %d blocks each",
			shape.name, shape.count*shape.high, one.Seconds(), three.Seconds(), three.Seconds()/one.Seconds(), first)
		t.Logf("processor time of the add to one node: %s", usedByOne)
		t.Logf("processor time of the add to three: %s; requests: %v", usedByThree, requests)
	}
}

// TestAnAddSaysWhoDoesNotHoldIt kills a node whose sidecar lives on.
func TestAnAddSaysWhoDoesNotHoldIt(t *testing.T) {
	t.Parallel()
	all := tasks(t, options{names: three()})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)
	all[1].node.kill()
	last, trailer, err := all[0].add(tree(t, 5, 1000, 2000, 3))
	require.NoError(t, err)
	require.Len(t, last.Missing, 1)
	require.Equal(t, "task-2", last.Missing[0].Name)
	require.Contains(t, last.Missing[0].Error, "refused")
	require.Equal(t, "task-2", trailer.Get("X-Cluster-Missing"))
	for _, k := range []*task{all[0], all[2]} {
		n, err := k.localBlocks(last.Cid)
		require.NoError(t, err)
		require.Equal(t, 6, n)
	}
	for _, more := range []string{"--no-stream=false", "--no-stream"} {
		_, errOut, code := run(t, all[0].sidecar.env, "cluster-aws", "ctl", "add", more, "-r", tree(t, 2, 1000, 2000, 4))
		require.Zero(t, code, errOut)
		require.Contains(t, errOut, "task-2 does not hold it yet")
	}
	all[1].node.start()
	awaitKept(t, all, map[string]bool{last.Cid: true}) // it fetches what it missed
	n, err := all[1].localBlocks(last.Cid)
	require.NoError(t, err)
	require.Equal(t, 6, n)

	// Two of two nodes that are needed: one is not enough, and the add says so.
	all[1].node.kill()
	all[2].node.kill()
	_, _, err = all[0].addWith(tree(t, 5, 1000, 2000, 4), "&replication-min=2&replication-max=3")
	require.ErrorContains(t, err, "destinations are left")
}

// TestAnAddWithAStoppedNodeIsAnsweredInTime: a client behind CloudFront waits for 60 s. Its place among the
// destinations decides how that is noticed, so each of the others stands still once.
func TestAnAddWithAStoppedNodeIsAnsweredInTime(t *testing.T) {
	gate.Long(t, "it waits for limits of 20 s")
	all := tasks(t, options{names: three()})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)
	for i, stopped := range all[1:] {
		require.NoError(t, proc.Stop(stopped.node.cmd.Process.Pid))
		began := time.Now()
		last, trailer, err := all[0].add(tree(t, 1, 20<<20, 20<<20, byte(i)))
		took := time.Since(began)
		require.NoError(t, stopped.node.cmd.Process.Signal(syscall.SIGCONT))
		require.NoError(t, err)
		t.Logf("with the node of %s stopped: %s, missing %+v", stopped.name, took, last.Missing)
		require.Less(t, took, 50*time.Second)
		require.Len(t, last.Missing, 1)
		require.Equal(t, stopped.name, last.Missing[0].Name)
		require.Equal(t, stopped.name, trailer.Get("X-Cluster-Missing"))
		awaitKept(t, all, map[string]bool{last.Cid: true}) // it fetches what it missed
	}
}
