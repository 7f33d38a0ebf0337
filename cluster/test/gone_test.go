package cluster

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// each calls do for all CIDs, twelve at a time.
func each(cids []string, do func(string)) {
	next := make(chan string)
	var workers sync.WaitGroup
	for range 12 {
		workers.Go(func() {
			for c := range next {
				do(c)
			}
		})
	}
	for _, c := range cids {
		next <- c
	}
	close(next)
	workers.Wait()
}

func (k *task) mustRequest(method, path string) {
	code, body, err := k.request(method, path)
	if err != nil || code != http.StatusOK {
		k.t.Errorf("%s %s: %d %s %v", method, path, code, body, err)
	}
}

// A peer is stopped, or dies, right after its clients were told that their pins are removed.
// Then its node has none of them any more, and keeps the pins that a user made on it.
func TestUnpinnedMeansGone(t *testing.T) {
	t.Parallel()
	n := scale(t, "CLUSTER_TEST_PINS", gate.Rounds(100, 300, 1000))
	k := tasks(t, options{names: []string{"task-1"}})[0]
	k.start()
	awaitAll(t, []*task{k})
	own := k.putBlocks([]string{"a user's", "another one"})
	for _, c := range own {
		res, err := http.Post(k.rpc+"/api/v0/pin/add?arg="+c, "", nil)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
	before, err := k.pinnedOnNode() // the user's own, and one that a new repo has
	require.NoError(t, err)
	for _, orderly := range []bool{true, false} {
		var texts []string
		for i := range n {
			texts = append(texts, fmt.Sprintf("orderly %v, block %d", orderly, i))
		}
		cids, all := k.putBlocks(texts), map[string]bool{}
		for _, c := range cids {
			all[c] = true
		}
		each(cids, func(c string) { k.mustRequest(http.MethodPost, "/pins/"+c) })
		awaitKept(t, []*task{k}, all)
		each(cids, func(c string) { k.mustRequest(http.MethodDelete, "/pins/"+c) })
		require.False(t, t.Failed())
		if orderly {
			k.sidecar.end(os.Interrupt)
		} else {
			k.sidecar.kill()
		}
		left, err := k.pinnedOnNode()
		require.NoError(t, err)
		t.Logf("orderly: %v; of %d unpinned, the node had %d when the peer was gone", orderly, n, len(left)-len(before))
		if orderly {
			require.Len(t, left, len(before), "what waited was unpinned before the end")
		}
		began := time.Now()
		k.startSidecar()
		require.Eventually(t, func() bool {
			left, err := k.pinnedOnNode()
			return err == nil && len(left) == len(before)
		}, patience, 10*poll, "the node keeps pins that the pinset does not say")
		t.Logf("none %.1f s after the start", time.Since(began).Seconds())
	}
	left, err := k.pinnedOnNode()
	require.NoError(t, err)
	require.Equal(t, before, left)
}

// What was answered is seen through every peer: pins are made, read, listed and removed
// through one after the other.
func TestAnsweredMeansVisibleEverywhere(t *testing.T) {
	t.Parallel()
	n := gate.Rounds(100, 200, 1000)
	all := tasks(t, options{names: three(), standIn: true})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)
	var took time.Duration
	for i := range n {
		c := rawCID(t, fmt.Sprint("gone ", i))
		a, b, d := all[i%3], all[(i+1)%3], all[(i+2)%3]
		began := time.Now()
		a.mustRequest(http.MethodPost, "/pins/"+c)
		took += time.Since(began)
		b.mustRequest(http.MethodGet, "/allocations/"+c)
		d.mustRequest(http.MethodDelete, "/pins/"+c)
		code, _, err := b.request(http.MethodGet, "/allocations/"+c)
		require.NoError(t, err)
		require.Equal(t, http.StatusNotFound, code)
		require.False(t, t.Failed(), "round %d", i)
	}
	t.Logf("%d rounds, a pin took %.1f ms", n, float64(took.Microseconds())/1000/float64(n))
}

// Pins that peers accept while they start, knowing of no other, have all their copies soon.
// Raising the number adds one, and keeps name and metadata.
func TestPinsOfAPeerThatJustStartedGetTheirCopies(t *testing.T) {
	t.Parallel()
	all := tasks(t, options{names: three(), standIn: true, settings: func(string) map[string]string {
		return map[string]string{"CLUSTER_REPLICATIONFACTORMIN": "1", "CLUSTER_REPLICATIONFACTORMAX": "2"}
	}})
	for _, k := range all {
		k.start()
	}
	pins := 0
	require.Eventually(t, func() bool {
		ready := true
		for _, k := range all {
			code, _, err := k.request(http.MethodPost, fmt.Sprintf("/pins/%s?name=n&meta-k=v", rawCID(t, fmt.Sprint("gone ", pins))))
			if err == nil && code == http.StatusOK {
				pins++
			}
			ready = ready && k.sees(3, 3)
		}
		return ready && pins >= 60
	}, patience, poll)
	copies := func(want int) func() bool {
		return func() bool {
			for _, k := range all {
				set, err := k.pinset()
				if err != nil || len(set) != pins {
					return false
				}
				for _, at := range set {
					if len(at) != want {
						return false
					}
				}
			}
			return true
		}
	}
	require.Eventually(t, copies(2), patience, 10*poll, "of %d pins some have too few copies", pins)
	for i := range pins {
		all[i%3].mustRequest(http.MethodPost, fmt.Sprintf("/pins/%s?replication-min=1&replication-max=3", rawCID(t, fmt.Sprint("gone ", i))))
	}
	require.Eventually(t, copies(3), patience, 10*poll, "the raised maximum adds no copies")
	set, err := all[1].allocations()
	require.NoError(t, err)
	for _, p := range set {
		require.Equal(t, map[string]string{"k": "v"}, p.Metadata)
	}
	t.Logf("%d pins", pins)
}
