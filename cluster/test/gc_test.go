package cluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dag "github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	car "github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/storage"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// file is a file in UnixFS: a root and its leaves.
type file struct {
	content []byte
	root    format.Node
	leaves  []format.Node
}

const leafSize = 256 << 10

// randomFile is a file of two leaves or more.
func randomFile(t testing.TB, random *rand.ChaCha8, size int) file {
	f := file{content: make([]byte, max(size, leafSize+1))}
	_, _ = random.Read(f.content) // never fails
	fs := unixfs.NewFSNode(unixfs.TFile)
	root := &dag.ProtoNode{}
	root.SetCidBuilder(dag.V1CidPrefix())
	for part := range slices.Chunk(f.content, leafSize) {
		leaf := dag.NewRawNode(part)
		f.leaves = append(f.leaves, leaf)
		fs.AddBlockSize(uint64(len(part)))
		require.NoError(t, root.AddNodeLink("", leaf))
	}
	data, err := fs.GetBytes()
	require.NoError(t, err)
	root.SetData(data)
	f.root = root
	return f
}

func (f file) cid() string { return f.root.Cid().String() }

// carOf is a CAR file with these blocks.
func carOf(t testing.TB, root format.Node, blocks ...format.Node) []byte {
	var out bytes.Buffer
	w, err := storage.NewWritable(&out, []cid.Cid{root.Cid()}, car.WriteAsCarV1(true))
	require.NoError(t, err)
	for _, b := range blocks {
		require.NoError(t, w.Put(t.Context(), b.Cid().KeyString(), b.RawData()))
	}
	return out.Bytes()
}

// carWith is a CAR file of a version with some roots and the blocks of files.
func carWith(t testing.TB, version int, roots []cid.Cid, of ...file) []byte {
	var out bytes.Buffer
	var err error
	var w storage.WritableCar
	f, ferr := os.CreateTemp(t.TempDir(), "car")
	require.NoError(t, ferr)
	defer f.Close()
	if version == 1 {
		w, err = storage.NewWritable(&out, roots, car.WriteAsCarV1(true))
	} else {
		w, err = storage.NewReadableWritable(f, roots)
	}
	require.NoError(t, err)
	for _, one := range of {
		for _, b := range append([]format.Node{one.root}, one.leaves...) {
			require.NoError(t, w.Put(t.Context(), b.Cid().KeyString(), b.RawData()))
		}
	}
	if version == 1 {
		return out.Bytes()
	}
	require.NoError(t, w.Finalize())
	content, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	return content
}

// addPart sends one file to /add with some parameters. Without an error the answer is one
// that a client takes for a success: its last object is the root's.
func (k *task) addPart(content []byte, parameters string) (last addedObject, code int, err error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "f")
	if err == nil {
		_, err = part.Write(content)
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		return last, 0, err
	}
	req, err := http.NewRequest(http.MethodPost, k.api+"/add?raw-leaves=true&cid-version=1&"+parameters, &body)
	if err != nil {
		return last, 0, err
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.SetBasicAuth(user, password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return last, 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return last, res.StatusCode, err
	}
	if res.StatusCode != http.StatusOK {
		return last, res.StatusCode, fmt.Errorf("%s: %s", res.Status, text)
	}
	if strings.Contains(parameters, "stream-channels=false") {
		var all []addedObject
		if err = json.Unmarshal(text, &all); err == nil && len(all) > 0 {
			return all[len(all)-1], res.StatusCode, nil
		}
		return last, res.StatusCode, fmt.Errorf("no object in %s: %v", text, err)
	}
	// A client behind CloudFront sees no trailers.
	for dec := json.NewDecoder(bytes.NewReader(text)); dec.More(); {
		last = addedObject{}
		if err := dec.Decode(&last); err != nil {
			return last, res.StatusCode, err
		}
	}
	if last.Cid == "" {
		return last, res.StatusCode, fmt.Errorf("the answer has no root: %s, trailers %v", text, res.Trailer)
	}
	return last, res.StatusCode, nil
}

// onNode asks the task's node and returns its answer.
func (k *task) onNode(command string, args url.Values) ([]byte, error) {
	res, err := http.Post(k.rpc+"/api/v0/"+command+"?"+args.Encode(), "", nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || res.Trailer.Get("X-Stream-Error") != "") {
		err = fmt.Errorf("%s: %s %s", res.Status, body, res.Trailer.Get("X-Stream-Error"))
	}
	return body, err
}

// both are the two kinds of answers.
var both = []string{"stream-channels=true", "stream-channels=false"}

// TestAnIncompleteCARIsRefused adds CAR files that lack a block, or their root.
func TestAnIncompleteCARIsRefused(t *testing.T) {
	all := tasks(t, options{names: three()})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)
	random := rand.NewChaCha8([32]byte{1})
	nothing := func(root string) {
		t.Helper()
		for _, k := range all {
			pins, err := k.pinset()
			require.NoError(t, err)
			require.NotContains(t, pins, root, "it is in the pinset")
			onNode, err := k.pinnedOnNode()
			require.NoError(t, err)
			require.NotContains(t, onNode, root, "it stays pinned on %s", k.name)
		}
	}
	for _, version := range []int{1, 2} {
		for _, how := range both {
			one, two, three := randomFile(t, random, 2*leafSize), randomFile(t, random, 2*leafSize), randomFile(t, random, 4*leafSize)
			single := randomFile(t, random, 2*leafSize)
			last, _, err := all[0].addPart(carWith(t, version, []cid.Cid{single.root.Cid()}, single), how+"&format=car")
			require.NoError(t, err, "version %d", version)
			require.Equal(t, single.cid(), last.Cid)
			roots := []cid.Cid{one.root.Cid(), two.root.Cid(), one.root.Cid()}
			last, _, err = all[0].addPart(carWith(t, version, roots, one, two), how+"&format=car&name=many")
			require.NoError(t, err, "version %d", version)
			require.Equal(t, two.cid(), last.Cid)
			require.Empty(t, last.Missing)
			pins, err := all[1].pinset()
			require.NoError(t, err)
			for _, f := range []file{single, one, two} {
				require.Contains(t, pins, f.cid(), "each root is a pin")
				heldWhole(t, all, f)
			}
			// One of the roots is not complete: none is pinned.
			four := randomFile(t, random, 2*leafSize)
			lacks := three
			lacks.leaves = slices.Delete(slices.Clone(three.leaves), 2, 3)
			for _, order := range [][]cid.Cid{{four.root.Cid(), three.root.Cid()}, {three.root.Cid(), four.root.Cid()}} {
				_, code, err := all[0].addPart(carWith(t, version, order, four, lacks), how+"&format=car")
				require.Equal(t, http.StatusBadRequest, code, "version %d: %v", version, err)
				require.ErrorContains(t, err, three.leaves[2].Cid().String())
			}
			absent := randomFile(t, random, 2*leafSize)
			_, code, err := all[0].addPart(carWith(t, version, []cid.Cid{four.root.Cid(), absent.root.Cid()}, four), how+"&format=car")
			require.Equal(t, http.StatusBadRequest, code, "version %d: %v", version, err)
			require.ErrorContains(t, err, absent.cid())
			for _, f := range []file{three, four, absent} {
				nothing(f.cid())
			}
			_, code, err = all[0].addPart(carWith(t, version, nil, four), how+"&format=car")
			require.Equal(t, http.StatusBadRequest, code, "version %d: %v", version, err)
			require.ErrorContains(t, err, "names no root")
		}
	}
	for _, how := range both {
		// What one of these adds stored may complete the next: each has a file of its own.
		for _, x := range []struct {
			what   string
			blocks func(file) []format.Node
			named  func(file) string
		}{
			{"a leaf is missing",
				func(f file) []format.Node { return []format.Node{f.root, f.leaves[0], f.leaves[1], f.leaves[3]} },
				func(f file) string { return f.leaves[2].Cid().String() }},
			{"the root is missing", func(f file) []format.Node { return f.leaves }, file.cid},
			{"everything is missing", func(file) []format.Node { return nil }, file.cid},
		} {
			for _, more := range []string{"", "&local=true", "&no-pin=true"} {
				f := randomFile(t, random, 4*leafSize)
				_, code, err := all[0].addPart(carOf(t, f.root, x.blocks(f)...), how+"&format=car"+more)
				require.Equal(t, http.StatusBadRequest, code, "%s, %s%s: %v", x.what, how, more, err)
				require.ErrorContains(t, err, x.named(f), "%s, %s%s", x.what, how, more)
				nothing(f.cid())
			}
		}
		f := randomFile(t, random, 4*leafSize)
		cut := carOf(t, f.root, append([]format.Node{f.root}, f.leaves...)...)
		_, code, err := all[0].addPart(cut[:len(cut)-1000], how+"&format=car")
		require.Equal(t, http.StatusBadRequest, code, "cut short, %s: %v", how, err)
		nothing(f.cid())

		f = randomFile(t, random, 4*leafSize)
		// What is there from before completes it.
		for _, k := range all {
			k.putBlocks([]string{string(f.leaves[2].RawData())})
		}
		last, _, err := all[0].addPart(carOf(t, f.root, append([]format.Node{f.root}, f.leaves[0], f.leaves[1], f.leaves[3])...), how+"&format=car")
		require.NoError(t, err)
		require.Equal(t, f.cid(), last.Cid)
		require.Empty(t, last.Missing)
		heldWhole(t, all, f)
		// All of it is.
		last, _, err = all[1].addPart(carOf(t, f.root), how+"&format=car")
		require.NoError(t, err)
		require.Empty(t, last.Missing)

		// One node has it, and the others do not: they are named, and fetch it.
		f = randomFile(t, random, 3*leafSize)
		all[2].putBlocks([]string{string(f.leaves[1].RawData())})
		last, _, err = all[0].addPart(carOf(t, f.root, f.root, f.leaves[0], f.leaves[2]), how+"&format=car")
		require.NoError(t, err)
		require.Len(t, last.Missing, 2)
		for _, m := range last.Missing {
			require.Contains(t, m.Error, f.leaves[1].Cid().String())
		}
		awaitKept(t, all, map[string]bool{f.cid(): true})
		heldWhole(t, all, f)
	}
}

// heldWhole requires that every node has a pin of a file and its bytes, without asking others.
func heldWhole(t *testing.T, all []*task, f file) {
	t.Helper()
	for _, k := range all {
		pins, err := k.pinnedOnNode()
		require.NoError(t, err)
		require.Contains(t, pins, f.cid(), k.name)
		got, err := k.onNode("cat", url.Values{"arg": {f.cid()}, "offline": {"true"}})
		require.NoError(t, err, k.name)
		require.True(t, bytes.Equal(f.content, got), k.name)
	}
}

// TestAddsAreProtectedWhenAnswered looks at the nodes as soon as an add is answered.
func TestAddsAreProtectedWhenAnswered(t *testing.T) {
	all := tasks(t, options{names: three()})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)
	random := rand.NewChaCha8([32]byte{2})
	for _, how := range both {
		f := randomFile(t, random, 2*leafSize)
		last, _, err := all[0].addPart(carOf(t, f.root, append([]format.Node{f.root}, f.leaves...)...), how+"&format=car")
		require.NoError(t, err)
		require.Empty(t, last.Missing)
		heldWhole(t, all, f)

		text := fmt.Sprint("a file, ", how)
		last, _, err = all[1].addPart([]byte(text), how)
		require.NoError(t, err)
		for _, k := range all {
			pins, err := k.pinnedOnNode()
			require.NoError(t, err)
			require.Contains(t, pins, last.Cid, k.name)
		}
		// On the node where it arrives, and where it is allocated at all.
		last, _, err = all[2].addPart([]byte(text+", local"), how+"&local=true")
		require.NoError(t, err)
		pins, err := all[2].pinnedOnNode()
		require.NoError(t, err)
		require.Contains(t, pins, last.Cid)

		// Not to be pinned is not to be pinned.
		last, _, err = all[0].addPart([]byte(text+", no pin"), how+"&no-pin=true")
		require.NoError(t, err)
		for _, k := range all {
			n, err := k.localBlocks(last.Cid)
			require.NoError(t, err, k.name)
			require.Equal(t, 1, n)
			pins, err := k.pinnedOnNode()
			require.NoError(t, err)
			require.NotContains(t, pins, last.Cid, k.name)
		}
	}

	// Too few destinations: none keeps it.
	all[1].node.kill()
	all[2].node.kill()
	before, err := all[0].pinnedOnNode()
	require.NoError(t, err)
	_, code, err := all[0].addPart([]byte("not enough"), "stream-channels=false&replication-min=2&replication-max=3")
	require.Error(t, err)
	require.Equal(t, http.StatusInternalServerError, code)
	after, err := all[0].pinnedOnNode()
	require.NoError(t, err)
	require.Equal(t, before, after, "an add that failed left a pin")
}

// TestPinsOfBrokenOffAddsAreSwept finds what a kill between the node's pin and the pinset leaves.
func TestPinsOfBrokenOffAddsAreSwept(t *testing.T) {
	all := tasks(t, options{names: []string{"task-1"}})
	k := all[0]
	k.start()
	awaitAll(t, all)
	cids := k.putBlocks([]string{"left behind", "somebody's own", "added and pinned", "a moment ago"})
	pin := func(id, name string) {
		_, err := k.onNode("pin/add", url.Values{"arg": {id}, "name": {name}})
		require.NoError(t, err)
	}
	long := "cluster-aws-add " + time.Now().Add(-48*time.Hour).UTC().Format(time.RFC3339)
	pin(cids[0], long)
	pin(cids[1], "mine")
	pin(cids[2], long)
	pin(cids[3], "cluster-aws-add "+time.Now().UTC().Format(time.RFC3339))
	code, body, err := k.request(http.MethodPost, "/pins/"+cids[2])
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code, string(body))
	k.sidecar.kill()
	k.startSidecar()
	var pins map[string]bool
	require.Eventually(t, func() bool {
		pins, err = k.pinnedOnNode()
		return err == nil && !pins[cids[0]]
	}, patience, poll, "the pin of an add that was broken off stays")
	for _, id := range cids[1:] {
		require.Contains(t, pins, id)
	}
}

// status is one pin's on one peer.
type status struct {
	Status  string `json:"status"`
	Error   string `json:"error"`
	Attempt int    `json:"attempt_count"`
}

// statusOf is the pin's status on the task's own peer.
func (k *task) statusOf(t testing.TB, id string) status {
	t.Helper()
	code, body, err := k.request(http.MethodGet, "/pins/"+id+"?local=true")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code, string(body))
	var pin struct {
		PeerMap map[string]status `json:"peer_map"`
	}
	require.NoError(t, json.Unmarshal(body, &pin))
	for _, s := range pin.PeerMap {
		return s
	}
	return status{}
}

// unfindable is a CID that no node has.
func unfindable(name string, i int) string {
	return dag.NewRawNode([]byte(fmt.Sprintf("nobody has %s %d", name, i))).Cid().String()
}

// TestPinsThatCannotBeFoundDoNotHoldUpOthers pins what no peer has and, after it, what one has.
func TestPinsThatCannotBeFoundDoNotHoldUpOthers(t *testing.T) {
	good := scale(t, "CLUSTER_TEST_GOOD_PINS", 200)
	bad := good / 10
	all := tasks(t, options{names: three()})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)
	pin := func(ids []string) {
		var next atomic.Int64
		var workers sync.WaitGroup
		for range 12 {
			workers.Go(func() {
				for i := next.Add(1) - 1; i < int64(len(ids)); i = next.Add(1) - 1 {
					code, body, err := all[i%3].request(http.MethodPost, "/pins/"+ids[i])
					if err != nil || code != http.StatusOK {
						t.Errorf("pin %s: %d %s %v", ids[i], code, body, err)
						return
					}
				}
			})
		}
		workers.Wait()
	}
	// median is how long after the first request a pin was on all nodes.
	median := func(round string) time.Duration {
		var texts []string
		for i := range good {
			texts = append(texts, fmt.Sprintf("%s, good %d", round, i))
		}
		ids := all[0].putBlocks(texts)
		began := time.Now()
		done := map[string]time.Duration{}
		var pinning sync.WaitGroup
		pinning.Go(func() { pin(ids) })
		for deadline := time.Now().Add(patience); len(done) < len(ids); {
			require.True(t, time.Now().Before(deadline), "%s: %d of %d pins are in place", round, len(done), len(ids))
			have := map[string]int{}
			for _, k := range all {
				pins, err := k.pinnedOnNode()
				require.NoError(t, err)
				for id := range pins {
					have[id]++
				}
			}
			for _, id := range ids {
				if _, known := done[id]; !known && have[id] == len(all) {
					done[id] = time.Since(began)
				}
			}
			<-time.After(poll)
		}
		pinning.Wait()
		var times []time.Duration
		for _, d := range done {
			times = append(times, d)
		}
		slices.Sort(times)
		return times[len(times)/2]
	}
	median("warm")
	alone := median("alone")
	var lost []string
	for i := range bad {
		lost = append(lost, unfindable("this", i))
	}
	pin(lost)
	next := median("next to them")
	t.Logf("%d pins that one peer has: half were in place on three nodes after %s, and after %s next to %d that no peer has (%.2f×)", good, alone, next, bad, next.Seconds()/alone.Seconds())
	require.Less(t, next, 2*alone+2*time.Second)

	// Their status says what is missing and since when.
	id := lost[0]
	var s status
	require.Eventually(t, func() bool {
		s = all[1].statusOf(t, id)
		return s.Status == "pin_error"
	}, patience, poll, "%+v", s)
	t.Log(s.Error)
	require.Regexp(t, `no new block .*first missing `+id+`; not found since \d{4}-\S+Z, tried \d+ times; next attempt at `, s.Error)
	since := func(text string) string { return strings.SplitN(strings.SplitN(text, "since ", 2)[1], ",", 2)[0] }
	before := since(s.Error)

	// A restart remembers since when.
	all[1].sidecar.kill()
	all[1].startSidecar()
	awaitAll(t, all)
	require.Eventually(t, func() bool {
		s = all[1].statusOf(t, id)
		return s.Status == "pin_error"
	}, patience, poll, "%+v", s)
	require.Equal(t, before, since(s.Error))

	// Recovering tries at once, even if it waits.
	tried := s.Error
	code, body, err := all[1].request(http.MethodPost, "/pins/"+id+"/recover?local=true")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code, string(body))
	require.Eventually(t, func() bool {
		s = all[1].statusOf(t, id)
		return s.Status == "pin_error" && s.Error != tried
	}, patience, poll, "%+v", s)

	// When one node has the content, all get it, without anybody asking.
	for i := range 4 { // the waits have doubled
		require.Eventually(t, func() bool { return all[0].statusOf(t, id).Status == "pin_error" }, patience, poll)
		if i < 3 {
			_, _, err = all[0].request(http.MethodPost, "/pins/"+id+"/recover")
			require.NoError(t, err)
		}
	}
	require.Equal(t, []string{id}, all[0].putBlocks([]string{"nobody has this 0"}))
	awaitKept(t, all, map[string]bool{id: true})
}

// collecting runs repo gc in a loop on all nodes until stop is called, which returns how many
// there were.
func collecting(t *testing.T, all []*task, every time.Duration) (stop func() int64) {
	var count atomic.Int64
	end := make(chan struct{})
	var loops sync.WaitGroup
	for _, k := range all {
		loops.Go(func() {
			for {
				if _, err := k.onNode("repo/gc", url.Values{"quiet": {"true"}}); err == nil {
					count.Add(1)
				}
				select {
				case <-end:
					return
				case <-time.After(every):
				}
			}
		})
	}
	var once sync.Once
	stop = func() int64 {
		once.Do(func() { close(end) })
		loops.Wait()
		return count.Load()
	}
	t.Cleanup(func() { stop() })
	return stop
}

// TestNothingAcknowledgedIsCollected adds, pins, unpins and restarts while all nodes collect
// garbage without a break: with a blockstore of another kind at each, and with the same at all.
// CLUSTER_TEST_STORM_SECONDS=300 is the long form.
func TestNothingAcknowledgedIsCollected(t *testing.T) {
	server := s3test.Start(t)
	stores := map[string]func(string) string{"one of each": oneOfEach}
	if gate.Full() {
		for _, store := range []string{"s3", "efs", "flatfs"} {
			stores[store] = func(string) string { return store }
		}
	}
	for name, of := range stores {
		t.Run(name, func(t *testing.T) { storm(t, onStores(server.URL, server.NewBucket(t), of)) })
	}
}

func storm(t *testing.T, node func(string) (args, env []string)) {
	length := time.Duration(scale(t, "CLUSTER_TEST_STORM_SECONDS", gate.Rounds(10, 30, 300))) * time.Second
	mib := scale(t, "CLUSTER_TEST_STORM_MIB", 8)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	all := tasks(t, options{names: three(), node: node})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)

	var mu sync.Mutex
	kept := map[string][sha256.Size]byte{} // acknowledged and not unpinned
	count := map[string]int{}
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		count[what]++
	}
	until := time.Now().Add(length)
	stop := collecting(t, all, 500*time.Millisecond)
	var adders sync.WaitGroup
	for n, how := range []string{"stream-channels=true", "stream-channels=false", "format=car&stream-channels=true",
		"format=car&stream-channels=false", "local=true&stream-channels=false", "no-pin=true&stream-channels=false"} {
		adders.Go(func() {
			random := rand.NewChaCha8([32]byte(binarySeed(seed, n)))
			r := rand.New(random)
			for i := 0; time.Now().Before(until); i++ {
				f := randomFile(t, random, r.IntN(mib<<20))
				body := f.content
				if strings.HasPrefix(how, "format=car") {
					body = carOf(t, f.root, append([]format.Node{f.root}, f.leaves...)...)
				}
				at := all[r.IntN(len(all))]
				last, _, err := at.addPart(body, how)
				if err == nil && strings.HasPrefix(how, "no-pin") {
					var code int
					var text []byte
					code, text, err = at.request(http.MethodPost, "/pins/"+last.Cid)
					if err == nil && code != http.StatusOK {
						err = fmt.Errorf("%d %s", code, text)
					}
				}
				if err != nil {
					note("refused: " + how)
					continue
				}
				note(how)
				// One of four is removed again.
				if i%4 == 3 {
					if code, _, err := at.request(http.MethodDelete, "/pins/"+last.Cid); err == nil && code == http.StatusOK {
						note("unpinned")
					}
					continue // or it is not known
				}
				mu.Lock()
				kept[last.Cid] = sha256.Sum256(f.content)
				mu.Unlock()
			}
		})
	}
	adders.Go(func() { // one task after the other is restarted
		for i := 0; time.Until(until) > 5*time.Second; i++ {
			<-time.After(length / 8)
			k := all[i%len(all)]
			if i%2 == 0 {
				k.sidecar.kill()
			} else {
				k.node.kill()
				k.sidecar.kill()
				k.node.start()
			}
			k.startSidecar()
			note("restarts")
		}
	})
	adders.Wait()
	gcs := stop()
	awaitAll(t, all)
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d collections; %v; %d roots to be there", gcs, count, len(kept))
	require.NotEmpty(t, kept)

	// Nothing may be fetched from elsewhere: each node that says it has it pinned has it.
	var lost, unpinned []string
	for _, k := range all {
		pinset, err := k.pinset()
		require.NoError(t, err)
		pins, err := k.pinnedOnNode()
		require.NoError(t, err)
		for id, sum := range kept {
			if _, known := pinset[id]; !known {
				lost = append(lost, k.name+"'s pinset lacks "+id)
			}
			if !pins[id] {
				unpinned = append(unpinned, k.name+" "+id)
				continue
			}
			got, err := k.onNode("cat", url.Values{"arg": {id}, "offline": {"true"}})
			if err != nil || sha256.Sum256(got) != sum {
				lost = append(lost, fmt.Sprintf("%s has %s pinned and lacks blocks: %v", k.name, id, err))
			}
		}
	}
	require.Empty(t, lost)
	// What a node lacks, another one has.
	t.Logf("%d copies were not in place yet", len(unpinned))
	want := map[string]bool{}
	for id := range kept {
		want[id] = true
	}
	awaitKept(t, all, want)
}

func binarySeed(seed int64, n int) []byte {
	sum := sha256.Sum256([]byte(fmt.Sprint(seed, " ", n)))
	return sum[:]
}

// TestCollectingThroughTheCluster collects on all nodes, one of which is away.
func TestCollectingThroughTheCluster(t *testing.T) {
	all := tasks(t, options{names: three()})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)
	all[1].node.kill()
	code, body, err := all[0].request(http.MethodPost, "/ipfs/gc")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code, string(body))
	var said struct {
		PeerMap map[string]struct {
			Peername string `json:"peername"`
			Error    string `json:"error"`
		} `json:"peer_map"`
	}
	require.NoError(t, json.Unmarshal(body, &said), string(body))
	// The name of the one that is away may be missing: it comes from its last ping.
	var refused, well int
	for id, peer := range said.PeerMap {
		switch {
		case strings.Contains(peer.Error, "refused"):
			refused++
			require.NotEqual(t, "task-1", peer.Peername)
			require.NotEqual(t, "task-3", peer.Peername)
		default:
			require.Empty(t, peer.Error, id)
			well++
		}
	}
	require.Equal(t, []int{1, 2}, []int{refused, well}, string(body))
}
