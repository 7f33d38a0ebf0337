package efs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	flatfs "github.com/ipfs/go-ds-flatfs"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs/crashfs"
	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs/faultfs"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// TestHistories is the proof of P8. A history is a few sessions of random calls,
// each of which ends with a crash at a random file-system operation or with
// Close, and between which others may write into the tree, restore a backup, or
// take the index away. A model keeps for every key the outcomes that P8 allows:
//
//   - after a Put or Commit that returned nil, its value and nothing else;
//   - after one that failed or was under way, its value or what was there before;
//   - after a Delete, until the next Sync or Close, nothing or what was there before;
//
// and after each crash the tree itself must hold, under every final name, one of
// the allowed values, complete. In a third of the sessions operations fail now
// and then, before or after they took effect, and the store goes on.
// The first seed is random, and is logged.
// EFS_HISTORIES=n runs n histories; EFS_SEED=n runs that one.
func TestHistories(t *testing.T) {
	count, first := gate.Histories(t, 300, 1000, 8000), gate.Random(t).Uint64()>>1
	if s := os.Getenv("EFS_HISTORIES"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		count = n
	}
	if s := os.Getenv("EFS_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		first, count = n, 1
	}
	var crashes, kills, losses, strangers, faults int
	for seed := first; seed < first+uint64(count); seed++ {
		h := newHistory(t, seed)
		h.run()
		crashes += h.crashes
		kills += h.kills
		losses += h.reverted
		strangers += h.strangers
		faults += h.faults
	}
	t.Logf("%d histories from EFS_SEED=%d on: %d crashes, %d kills, %d unacknowledged changes lost, %d changes by others, %d failed calls", count, first, crashes, kills, losses, strangers, faults)
	if count > 100 {
		// The histories are only worth something if these happen.
		require.Greater(t, crashes, count/2)
		require.Greater(t, kills, count/4)
		require.Greater(t, losses, count/20)
		require.Greater(t, strangers, count/4)
		require.Greater(t, faults, count/4)
	}
}

const absent = "\x00absent"

type history struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	cfg  Config
	fs   *crashfs.FS // holds the store
	view *faultfs.FS // what the store sees of fs
	disk *crashfs.FS // holds the index; the same as fs in half of the histories

	keys []string
	mu   sync.Mutex
	// allowed are the outcomes that a key may have after a crash, now is what the
	// store must say it has, unless it is unsure: its last call has failed.
	allowed map[string][]string
	now     map[string]string
	unsure  map[string]bool
	// deleted are the keys whose delete was acknowledged and not settled since:
	// where operations fail, it may turn out that they are still there.
	deleted map[string]bool

	backup *crashfs.Backup
	saved  map[string]string

	disturbed bool // operations fail
	killed    bool // and not opened since

	crashes, kills, reverted, strangers, faults int
}

func newHistory(t *testing.T, seed uint64) *history {
	rng := rand.New(rand.NewPCG(seed, 8))
	h := &history{
		t: t, seed: seed, rng: rng,
		allowed: make(map[string][]string), now: make(map[string]string), unsure: make(map[string]bool), deleted: make(map[string]bool),
	}
	names := crashfs.Names(rng.IntN(2))
	// With a clock that ticks once a second, or never moves back.
	tick := []int64{1, 4_000_000, 1_000_000_000}[rng.IntN(3)]
	h.fs = crashfs.New(rand.New(rand.NewPCG(seed, 9)), names, tick)
	h.view = faultfs.New(h.fs)
	h.disk = h.fs
	h.cfg = Config{Path: "/blocks", ShardFunc: "/repo/flatfs/shard/v1/suffix/1", Workers: 1 + rng.IntN(4), unhashed: true}
	if rng.IntN(2) == 0 {
		h.disk = crashfs.New(rand.New(rand.NewPCG(seed, 10)), crashfs.OnSyncDir, tick)
		h.cfg.IndexPath = "/index"
	}
	for i := range 8 {
		h.keys = append(h.keys, blockKey([]byte(fmt.Sprint("history", i))).String()[1:])
	}
	h.keys = append(h.keys, "AFKREI", "BAFA", "ZQ") // no SHA-256
	for _, k := range h.keys {
		h.now[k], h.allowed[k] = absent, []string{absent}
	}
	return h
}

func (h *history) fail(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("EFS_SEED=%d: %s", h.seed, fmt.Sprintf(format, args...))
}

func (h *history) run() {
	for range 2 + h.rng.IntN(3) {
		h.session()
		h.between()
	}
	d, err := open(h.cfg, h.view, h.indexFS())
	if err != nil {
		h.fail("last open: %v", err)
	}
	h.adopt(d)
	h.compare(d)
	if err := d.Close(); err != nil {
		h.fail("last close: %v", err)
	}
}

// session opens the store, compares it with the model, and calls it until it
// crashes or the session ends.
func (h *history) session() {
	crash := h.rng.IntN(4) > 0
	if crash {
		h.fs.CrashAfter(1 + h.rng.IntN(1+h.rng.IntN(400)))
	}
	if h.rng.IntN(3) == 0 {
		h.disturb()
	}
	d, err := open(h.cfg, h.view, h.indexFS())
	if err == nil {
		d.keeper.threshold.Store(int64(1 + h.rng.IntN(30)))
		if !h.fs.Crashed() {
			h.inPeace(func() {
				h.adopt(d)
				h.compare(d)
				h.sweptClean()
			})
		}
		for range h.rng.IntN(40) {
			if h.fs.Crashed() {
				break
			}
			h.step(d)
		}
		err = d.Close()
		if err == nil {
			h.settled()
		}
	}
	h.calm()
	if err != nil && !expected(err) {
		h.fail("error without a fault: %v", err)
	}
	clear(h.unsure)
	clear(h.deleted)
	switch {
	case err == nil && h.rng.IntN(4) > 0:
		// Close makes durable what there is, also of calls that failed.
		h.fs.Restart()
		h.inspect(true)
	case h.rng.IntN(3) == 0:
		// The process was killed: nothing is lost, but not all is durable.
		h.kills++
		h.fs.Restart()
		h.inspect(false)
		h.killed = true
	default:
		h.crashes++
		h.fs.Recover()
		if h.disk != h.fs {
			h.disk.Recover()
		}
		h.inspect(true)
		h.killed = false
	}
}

// disturb lets about one operation in twenty fail, until calm ends that.
func (h *history) disturb() {
	rng := rand.New(rand.NewPCG(h.rng.Uint64(), 11))
	h.disturbed = true
	h.view.Inject(func(faultfs.Op, string) faultfs.Fault {
		if rng.IntN(20) > 0 {
			return faultfs.Fault{}
		}
		return faultfs.Fault{Err: syscall.EIO, Done: rng.IntN(2) == 0}
	})
}

func (h *history) calm() {
	h.disturbed = false
	h.view.Inject(nil)
}

// inPeace runs f while nothing fails.
func (h *history) inPeace(f func()) {
	disturbed := h.disturbed
	h.calm()
	f()
	if disturbed {
		h.disturb()
	}
}

func expected(err error) bool {
	return errors.Is(err, crashfs.ErrCrashed) || errors.Is(err, syscall.EIO)
}

func (h *history) indexFS() vfs.FS {
	if h.disk == h.fs {
		return h.view
	}
	return h.disk
}

// adopt takes what a store that was opened after a kill has as what there is:
// what Open tells must be durable, even if the process before did not get that far.
func (h *history) adopt(d *Datastore) {
	if !h.killed {
		return
	}
	observed := make(map[string]string)
	for _, k := range h.keys {
		value, err := d.Get(context.Background(), ds.NewKey(k))
		switch {
		case err == nil:
			observed[k] = string(value)
		case errors.Is(err, ds.ErrNotFound):
			observed[k] = absent
		default:
			if !h.fs.Crashed() {
				h.fail("get %s: %v", k, err)
			}
			return
		}
		if !slices.Contains(h.allowed[k], observed[k]) {
			h.fail("after the kill, %s is %q; allowed are %q", k, observed[k], h.allowed[k])
		}
	}
	for k, value := range observed {
		h.now[k], h.allowed[k] = value, []string{value}
	}
	h.killed = false
}

// settled ends the time in which a delete may be undone.
func (h *history) settled() {
	for k, now := range h.now {
		if now == absent && !h.unsure[k] {
			h.allowed[k] = []string{absent}
		}
	}
	clear(h.deleted)
}

// step makes one call, or a few at once on different keys.
func (h *history) step(d *Datastore) {
	switch h.rng.IntN(12) {
	case 0:
		h.fs.Advance(h.rng.Int64N(5_000_000_000))
	case 1:
		if d.Sync(context.Background(), ds.NewKey("/")) == nil {
			h.settled()
		} else {
			// Which of them, the error says; the model does not read it.
			maps.Copy(h.unsure, h.deleted)
		}
	case 2:
		if !h.fs.Crashed() {
			h.inPeace(func() { h.compare(d) })
		}
	case 3, 4:
		h.batch(d)
	case 5:
		// A row of deletes, of which the later ones are not waited for.
		d.removal.mu.Lock()
		d.removal.prompt = 0
		d.removal.mu.Unlock()
		for _, k := range h.some(4) {
			h.delete(d, k)
		}
	case 6:
		var wg sync.WaitGroup
		for _, k := range h.some(4) {
			value, put := h.value(k), h.rng.IntN(4) > 0
			wg.Go(func() {
				if put {
					h.put(d, k, value)
				} else {
					h.delete(d, k)
				}
			})
		}
		wg.Wait()
	case 7:
		h.delete(d, h.some(1)[0])
	default:
		k := h.some(1)[0]
		h.put(d, k, h.value(k))
	}
}

func (h *history) some(n int) []string {
	perm := h.rng.Perm(len(h.keys))
	var keys []string
	for _, i := range perm[:1+h.rng.IntN(n)] {
		keys = append(keys, h.keys[i])
	}
	return keys
}

// value is one of four for each key, two of them of the same size.
func (h *history) value(k string) string {
	return []string{"", "a " + k, "b " + k, strings.Repeat(k, 50)}[h.rng.IntN(4)]
}

// begin says that a call is about to leave outcome, and end how it went.
func (h *history) begin(k, outcome string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.allowed[k], outcome) {
		h.allowed[k] = append(h.allowed[k], outcome)
	}
}

func (h *history) end(k, outcome string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		if !expected(err) {
			h.t.Errorf("EFS_SEED=%d: error without a fault: %v", h.seed, err)
		}
		h.faults++
		h.unsure[k] = true
		return
	}
	delete(h.unsure, k)
	delete(h.deleted, k)
	h.now[k] = outcome
	if outcome != absent {
		h.allowed[k] = []string{outcome}
	} else if h.disturbed {
		h.deleted[k] = true
	} // and in any case a crash may undo a delete until it is settled
}

func (h *history) put(d *Datastore, k, value string) {
	h.begin(k, value)
	h.end(k, value, d.Put(context.Background(), ds.NewKey(k), []byte(value)))
}

func (h *history) delete(d *Datastore, k string) {
	h.begin(k, absent)
	h.end(k, absent, d.Delete(context.Background(), ds.NewKey(k)))
}

func (h *history) batch(d *Datastore) {
	b, err := d.Batch(context.Background())
	if err != nil {
		h.fail("batch: %v", err)
	}
	if h.rng.IntN(2) == 0 {
		b.(*batch).bytes = batchBytes // no room: every value is staged at once
	}
	last := make(map[string]string)
	for _, k := range append(h.some(5), h.some(2)...) {
		var err error
		if h.rng.IntN(4) == 0 {
			last[k] = absent
			err = b.Delete(context.Background(), ds.NewKey(k))
		} else {
			last[k] = h.value(k)
			err = b.Put(context.Background(), ds.NewKey(k), []byte(last[k]))
		}
		if err != nil {
			h.fail("batch: %v", err)
		}
	}
	for k, outcome := range last {
		h.begin(k, outcome)
	}
	err = b.Commit(context.Background())
	for k, outcome := range last {
		h.end(k, outcome, err)
	}
}

// compare checks every way to ask the store against the model.
func (h *history) compare(d *Datastore) {
	h.t.Helper()
	res, err := d.Query(context.Background(), query.Query{KeysOnly: true})
	if h.fs.Crashed() {
		return
	}
	if err != nil {
		h.fail("query: %v", err)
	}
	entries, err := res.Rest()
	if err != nil {
		h.fail("query: %v", err)
	}
	listed := make(map[string]int)
	for _, e := range entries {
		listed[e.Key[1:]] = e.Size
	}
	for _, k := range h.keys {
		key := ds.NewKey(k)
		value, err := d.Get(context.Background(), key)
		has, herr := d.Has(context.Background(), key)
		size, serr := d.GetSize(context.Background(), key)
		if h.fs.Crashed() {
			return
		}
		listedSize, isListed := listed[k]
		delete(listed, k)
		switch {
		case errors.Is(err, ds.ErrNotFound):
			if !h.mayBe(k, absent) {
				h.fail("%s is missing; allowed are %q", k, h.allowed[k])
			}
			if has || herr != nil || size != -1 || !errors.Is(serr, ds.ErrNotFound) || isListed {
				h.fail("%s is missing, but Has is %v %v, GetSize %d %v, listed %v", k, has, herr, size, serr, isListed)
			}
		case err != nil:
			h.fail("get %s: %v", k, err)
		default:
			if !h.mayBe(k, string(value)) {
				h.fail("%s is %q; it must be %q", k, value, h.now[k])
			}
			if !has || herr != nil || size != len(value) || serr != nil || !isListed || listedSize != size {
				h.fail("%s is there, but Has is %v %v, GetSize %d %v, listed %v %d", k, has, herr, size, serr, isListed, listedSize)
			}
		}
	}
	if len(listed) > 0 {
		h.fail("listed and never put: %v", slices.Collect(maps.Keys(listed)))
	}
}

// mayBe reports whether the living store may say that a key has this outcome.
func (h *history) mayBe(k, outcome string) bool {
	if h.unsure[k] || h.deleted[k] {
		return slices.Contains(h.allowed[k], outcome)
	}
	return h.now[k] == outcome
}

// sweptClean checks that Open has left nothing of earlier sessions behind.
func (h *history) sweptClean() {
	for name := range h.fs.Files(h.cfg.Path) {
		if strings.HasPrefix(path.Base(name), markerPrefix) || strings.HasPrefix(path.Base(name), tempPrefix) {
			h.fail("%s was not swept", name)
		}
	}
}

// inspect looks at the tree after a crash, behind the store's back: every file
// under a final name must be complete and allowed. If the machine has crashed,
// what it finds is from now on what there is.
func (h *history) inspect(machine bool) {
	found := make(map[string]string)
	for name, data := range h.fs.Files(h.cfg.Path) {
		if k, ok := strings.CutSuffix(path.Base(name), blockSuffix); ok {
			found[k] = string(data)
		}
	}
	for _, k := range h.keys {
		value, there := found[k]
		if !there {
			value = absent
		}
		if !slices.Contains(h.allowed[k], value) {
			h.fail("after the crash, %s is %q; allowed are %q", k, value, h.allowed[k])
		}
		if len(h.allowed[k]) > 1 && value != h.allowed[k][len(h.allowed[k])-1] {
			h.reverted++
		}
		h.now[k] = value
		if machine {
			h.allowed[k] = []string{value}
		}
	}
}

// between is what may happen while the store is closed.
func (h *history) between() {
	action := h.rng.IntN(7)
	if h.killed && action < 3 {
		return // a backup, or a change by others, of what is not durable proves nothing
	}
	switch action {
	case 0: // stock flatfs, or somebody with rsync
		h.stranger()
	case 1: // back to an earlier state
		if h.backup != nil {
			h.strangers++
			h.must(h.fs.Restore(h.cfg.Path, *h.backup))
			for k := range h.now {
				h.now[k], h.allowed[k] = h.saved[k], []string{h.saved[k]}
			}
		}
	case 2:
		if b, err := h.fs.Backup(h.cfg.Path); err == nil {
			h.backup, h.saved = &b, maps.Clone(h.now)
		}
	case 3: // a task on a fresh disk
		index := h.cfg.IndexPath
		if index == "" {
			index = path.Join(h.cfg.Path, IndexFile)
		}
		if h.disk.Files("/")[index] != nil {
			h.must(h.disk.RemoveAll(index))
		}
	case 4:
		h.fs.Advance(h.rng.Int64N(10_000_000_000))
	case 5: // the clock is set back, by what no change of before had as its time
		h.fs.Advance(-3600e9 - h.rng.Int64N(3600e9))
	}
}

func (h *history) must(err error) {
	h.t.Helper()
	if err != nil {
		h.fail("%v", err)
	}
}

// stranger changes the tree as another program would. Stock flatfs replaces .temp when it opens.
func (h *history) stranger() {
	if h.fs.Files(h.cfg.Path)[path.Join(h.cfg.Path, flatfs.SHARDING_FN)] == nil {
		return // not a store yet
	}
	stock := h.rng.IntN(2) == 0
	if stock {
		if err := h.fs.RemoveAll(path.Join(h.cfg.Path, tempDir)); err == nil {
			h.must(h.fs.Mkdir(path.Join(h.cfg.Path, tempDir)))
			h.must(h.fs.SyncDir(h.cfg.Path))
		}
	} else {
		// Without that trace, it takes a clock that ticks between two programs.
		h.fs.Advance(1_000_000_000)
	}
	for _, k := range h.some(4) {
		dir := path.Join(h.cfg.Path, k[len(k)-1:])
		if err := h.fs.Mkdir(dir); err == nil {
			h.must(h.fs.SyncDir(h.cfg.Path))
		}
		name := path.Join(dir, k+blockSuffix)
		h.strangers++
		if h.now[k] != absent && h.rng.IntN(2) == 0 {
			h.must(h.fs.RemoveAll(name))
			h.now[k], h.allowed[k] = absent, []string{absent}
			continue
		}
		value := h.value(k)
		h.must(h.fs.WriteFile(name, []byte(value)))
		h.now[k], h.allowed[k] = value, []string{value}
	}
}
