package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// rawCID is the CID of a raw block with the given text.
func rawCID(t testing.TB, text string) string {
	mh, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
	require.NoError(t, err)
	return cid.NewCidV1(cid.Raw, mh).String()
}

// TestGrowth fills three peers with many pins, and measures what that costs and
// how they restart with it. Instead of IPFS nodes there are stand-ins, so what
// it measures is the sidecar. CLUSTER_TEST_GROWTH_PINS=100000 is the long form,
// whose figures are in docs/cluster.md.
func TestGrowth(t *testing.T) {
	t.Parallel()
	pins := scale(t, "CLUSTER_TEST_GROWTH_PINS", gate.Rounds(200, 300, 10_000))
	clients := scale(t, "CLUSTER_TEST_GROWTH_CLIENTS", 48)
	all := tasks(t, options{names: three(), standIn: true})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)
	for _, k := range all {
		t.Logf("%s, empty: %s", k.name, k.weight())
	}

	began := time.Now()
	took := pinMany(t, all, pins, clients)
	t.Logf("%d pins by %d clients at once took %.1f s; each: %s; the first tenth: %s; the last: %s", pins, clients,
		time.Since(began).Seconds(), spread(took), spread(took[:pins/10]), spread(took[pins-pins/10:]))
	awaitCount(t, all, pins)
	t.Logf("everywhere after %.1f s", time.Since(began).Seconds())
	for _, k := range all {
		t.Logf("%s, full: %s", k.name, k.weight())
	}

	var lone []time.Duration
	for i := range 50 {
		c := rawCID(t, fmt.Sprintf("lone %d", i))
		began := time.Now()
		code, body, err := all[0].request(http.MethodPost, "/pins/"+c)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, code, string(body))
		lone = append(lone, time.Since(began))
	}
	t.Logf("a pin that is alone: %s", spread(lone))
	pins += len(lone)
	awaitCount(t, all, pins)

	restart := func(what string, victims []*task, end func(*task)) {
		var ending sync.WaitGroup
		for _, k := range victims {
			ending.Go(func() { end(k) })
		}
		ending.Wait()
		began := time.Now()
		for _, k := range victims {
			k.startSidecar()
		}
		for _, k := range victims {
			require.Eventually(t, func() bool { return k.readiness().Ready }, patience, poll, "%s: %+v", k.name, k.readiness())
			t.Logf("%s: %s is ready after %.1f s", what, k.name, time.Since(began).Seconds())
		}
		awaitAll(t, all)
		awaitCount(t, all, pins)
		t.Logf("%s: everything in place after %.1f s", what, time.Since(began).Seconds())
	}
	restart("one was ended in order", all[:1], func(k *task) { k.sidecar.end(syscall.SIGTERM) })
	restart("one was killed", all[1:2], func(k *task) { k.sidecar.kill() })
	restart("all were killed at once", all, func(k *task) { k.sidecar.kill() })
	restart("one lost its folder", all[2:], func(k *task) {
		k.sidecar.kill()
		require.NoError(t, os.RemoveAll(filepath.Join(k.dir, "cluster")))
	})
	for _, k := range all {
		t.Logf("%s, at the end: %s", k.name, k.weight())
	}
}

// pinMany pins so many CIDs through all peers and returns how long each took to
// be acknowledged, in the order in which they began.
func pinMany(t *testing.T, all []*task, pins, clients int) []time.Duration {
	t.Helper()
	took := make([]time.Duration, pins)
	var next atomic.Int64
	var failed atomic.Int64
	var workers sync.WaitGroup
	for worker := range clients {
		workers.Go(func() {
			for {
				i := int(next.Add(1) - 1)
				if i >= pins {
					return
				}
				began := time.Now()
				code, body, err := all[worker%len(all)].request(http.MethodPost, "/pins/"+rawCID(t, fmt.Sprint(i)))
				if took[i] = time.Since(began); err != nil || code != http.StatusOK {
					if failed.Add(1) < 10 {
						t.Errorf("pin %d: %d %s %v", i, code, body, err)
					}
				}
			}
		})
	}
	workers.Wait()
	require.Zero(t, failed.Load())
	return took
}

// awaitCount waits until every peer's pinset holds n pins.
func awaitCount(t *testing.T, all []*task, n int) {
	t.Helper()
	long := patience + time.Duration(n)*20*time.Millisecond // on a machine that has much else to do
	for _, k := range all {
		detail := ""
		require.Eventually(t, func() bool {
			detail = k.readiness().detail("consensus")
			return strings.HasPrefix(detail, "the pinset is that of")
		}, long, 2*poll, "%s: %s", k.name, detail)
		have := -1
		require.Eventually(t, func() bool {
			have = k.count()
			return have == n
		}, patience, 10*poll, "%s has %d of %d", k.name, have, n)
	}
}

// count counts the pins of the peer's own copy of the pinset, without keeping
// the answer; -1 if it does not answer.
func (k *task) count() int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.api+"/allocations", nil)
	if err != nil {
		return -1
	}
	req.SetBasicAuth(user, password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return -1
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent {
		return 0
	}
	n := 0
	for dec := json.NewDecoder(res.Body); dec.More(); n++ {
		var pin struct{}
		if dec.Decode(&pin) != nil {
			return -1
		}
	}
	return n
}

// weight says what the sidecar takes of memory and disk.
func (k *task) weight() string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", k.sidecar.cmd.Process.Pid))
	if err != nil {
		return "unknown here"
	}
	memory := map[string]float64{}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		if kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB")); err == nil {
			memory[name] = float64(kib) / 1024
		}
	}
	out, err := exec.Command("du", "-sk", filepath.Join(k.dir, "cluster")).Output()
	require.NoError(k.t, err)
	kib, err := strconv.Atoi(strings.Fields(string(out))[0])
	require.NoError(k.t, err)
	return fmt.Sprintf("%.0f MiB of memory, %.0f MiB at most; %.1f MiB of disk; %.1f s of CPU", memory["VmRSS"], memory["VmHWM"], float64(kib)/1024, k.sidecar.cpu())
}

// cpu is the CPU time that a process has taken, in seconds; 0 where that cannot
// be known.
func (p *process) cpu() float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	ticks := 0
	for _, f := range fields[11:13] { // utime and stime of proc(5), in 1/100 s
		n, err := strconv.Atoi(f)
		require.NoError(p.t, err)
		ticks += n
	}
	return float64(ticks) / 100
}

// spread is the median and the slow end of durations.
func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	sorted := slices.SortedFunc(slices.Values(d), cmp.Compare)
	at := func(share float64) float64 {
		return float64(sorted[int(share*float64(len(sorted)-1))].Microseconds()) / 1000
	}
	return fmt.Sprintf("median %.1f ms, 99 %% %.1f ms, slowest %.1f ms", at(0.5), at(0.99), at(1))
}
