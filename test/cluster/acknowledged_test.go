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

// TestNothingAcknowledgedIsLost pins through all peers while one of them, or
// all at once, are killed at random moments. CLUSTER_TEST_ROUNDS=20 is the long
// form; the default covers each kind of kill twice.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	rounds := scale(t, "CLUSTER_TEST_ROUNDS", 8)
	perRound := scale(t, "CLUSTER_TEST_PINS", 40)
	if testing.Short() {
		rounds = min(rounds, 4)
	}
	all := tasks(t, options{names: three()})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)

	acknowledged := map[string]bool{}
	refused := 0
	for round := range rounds {
		began := time.Now()
		var texts []string
		for i := range perRound {
			texts = append(texts, fmt.Sprintf("round %d, block %d", round, i))
		}
		cids := all[round%3].putBlocks(texts)

		victims := all
		if round%2 == 0 {
			victims = all[rand.IntN(3):][:1]
		}
		withNodes := round%4 >= 2
		acked := pinUntilKilled(t, all, cids, func() {
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
		})
		for _, k := range victims {
			if withNodes {
				k.node.start()
			}
			k.startSidecar()
		}
		for _, c := range acked {
			acknowledged[c] = true
		}
		refused += perRound - len(acked)
		back := time.Now()
		awaitKept(t, all, acknowledged)
		t.Logf("round %d: killed %d (nodes too: %v), %d of %d acknowledged, everything in place %.1f s after the restart, round took %.1f s",
			round, len(victims), withNodes, len(acked), perRound, time.Since(back).Seconds(), time.Since(began).Seconds())
	}
	t.Logf("%d pins acknowledged in %d rounds, %d refused or cut off by a kill, 0 lost", len(acknowledged), rounds, refused)
	require.NotEmpty(t, acknowledged)
}

// pinUntilKilled pins CIDs through all peers at once, calls kill at a random
// moment, and returns those that were acknowledged.
func pinUntilKilled(t *testing.T, all []*task, cids []string, kill func()) []string {
	t.Helper()
	var mu sync.Mutex
	var acked []string
	var next atomic.Int64
	strike := int64(1 + rand.IntN(len(cids)-1))
	killed := make(chan struct{})
	var once sync.Once
	var workers sync.WaitGroup
	for worker := range 12 {
		workers.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(cids)) {
					return
				}
				if i == strike {
					once.Do(func() { go func() { defer close(killed); kill() }() })
				}
				code, _, err := all[worker%len(all)].request(http.MethodPost, "/pins/"+cids[i])
				if err == nil && (code == http.StatusOK || code == http.StatusAccepted) {
					mu.Lock()
					acked = append(acked, cids[i])
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	<-killed
	return acked
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
	deadline := time.Now().Add(patience)
	for {
		ok := true
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
		<-time.After(poll)
	}
}
