package cluster

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

func scale(t *testing.T, variable string, def int) int {
	v := os.Getenv(variable)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	require.NoError(t, err, variable)
	return n
}

// perPin is added to the patience for every pin: a node pins some dozens a
// second, and ten on a machine that has other things to do.
const perPin = 100 * time.Millisecond

// TestNothingAcknowledgedIsLost pins through all peers. In each round, at
// random moments, one of them is killed and started again, and then all are
// killed at once; in every second round their nodes die with them.
// CLUSTER_TEST_ROUNDS=20 with CLUSTER_TEST_PINS=2000 is the long form.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	t.Parallel()
	rounds := scale(t, "CLUSTER_TEST_ROUNDS", gate.Rounds(2, 2, 10))
	perRound := scale(t, "CLUSTER_TEST_PINS", gate.Rounds(40, 40, 200))
	random := gate.Random(t)
	all := tasks(t, options{names: three()})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)

	acknowledged := map[string]bool{}
	for round := range rounds {
		began := time.Now()
		var texts []string
		for i := range perRound {
			texts = append(texts, fmt.Sprintf("round %d, block %d", round, i))
		}
		cids := all[round%3].putBlocks(texts)

		withNodes := round%2 == 1
		kill := func(victims ...*task) {
			var killed sync.WaitGroup
			for _, k := range victims {
				killed.Go(func() {
					if withNodes {
						k.node.kill()
					}
					k.sidecar.kill()
				})
			}
			killed.Wait()
		}
		restart := func(victims ...*task) {
			for _, k := range victims {
				if withNodes {
					k.node.start()
				}
				k.startSidecar()
			}
		}
		one := all[random.IntN(3)]
		refused := pinWhile(t, random, all, cids,
			func() { kill(one); restart(one) },
			func() { kill(all...); restart(all...) })
		require.False(t, t.Failed())
		for _, c := range cids {
			acknowledged[c] = true
		}
		last := time.Now()
		awaitKept(t, all, acknowledged)
		t.Logf("round %d: killed one, then all (nodes too: %v); %d pins acknowledged, %d requests refused or cut off; everything in place %.1f s after the last one, round took %.1f s",
			round, withNodes, perRound, refused, time.Since(last).Seconds(), time.Since(began).Seconds())
	}
	t.Logf("%d pins acknowledged in %d rounds, 0 lost", len(acknowledged), rounds)
}

// pinWhile pins CIDs through all peers at once until each is acknowledged, and
// lets each event happen at a random moment, one after the other. It returns
// how many requests were refused or cut off.
func pinWhile(t *testing.T, random *rand.Rand, all []*task, cids []string, events ...func()) int {
	t.Helper()
	deadline := time.Now().Add(patience + time.Duration(len(cids))*perPin)
	var next, refused atomic.Int64
	var moments []int
	for range events {
		moments = append(moments, random.IntN(len(cids)))
	}
	slices.Sort(moments)
	reached := make([]chan struct{}, len(events))
	for i := range reached {
		reached[i] = make(chan struct{})
	}
	happened := make(chan struct{})
	go func() {
		defer close(happened)
		for i := range events {
			<-reached[i]
			events[i]()
		}
	}()
	var workers sync.WaitGroup
	for worker := range 12 {
		workers.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(cids)) {
					return
				}
				for event, moment := range moments {
					if i == int64(moment) {
						close(reached[event])
					}
				}
				// A client that is refused asks another peer.
				for attempt := worker; ; attempt++ {
					code, _, err := all[attempt%len(all)].request(http.MethodPost, "/pins/"+cids[i])
					if err == nil && (code == http.StatusOK || code == http.StatusAccepted) {
						break
					}
					refused.Add(1)
					if time.Now().After(deadline) {
						t.Errorf("%s was not acknowledged by any peer in time: %d %v", cids[i], code, err)
						return
					}
					<-time.After(poll)
				}
			}
		})
	}
	workers.Wait()
	<-happened
	return int(refused.Load())
}

// awaitKept waits until every peer's pinset and every node hold all CIDs.
func awaitKept(t *testing.T, all []*task, cids map[string]bool) {
	t.Helper()
	var lacking string
	kept := func(have map[string]bool, who string) bool {
		for c := range cids {
			if !have[c] {
				lacking = who + " lacks " + c
				return false
			}
		}
		return true
	}
	deadline := time.Now().Add(patience + time.Duration(len(cids))*perPin)
	for {
		ok, began := true, time.Now()
		for _, k := range all {
			pins, err := k.pinset()
			have := map[string]bool{}
			for c := range pins {
				have[c] = true
			}
			if err != nil || !kept(have, "the pinset of "+k.name) {
				ok = false
				break
			}
			onNode, err := k.pinnedOnNode()
			if err != nil || !kept(onNode, "the node of "+k.name) {
				ok = false
				break
			}
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			var ready []string
			for _, k := range all {
				ready = append(ready, fmt.Sprintf("%s: %+v", k.name, k.readiness()))
			}
			slices.Sort(ready)
			require.Fail(t, "acknowledged pins are lost", "%s\n%v", lacking, ready)
		}
		<-time.After(max(poll, time.Since(began))) // listing thousands is work for the peers
	}
}
