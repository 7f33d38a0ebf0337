package s3ds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/chain"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// unruly is the way of one process to the bucket: requests are slow, refused, or lose their answers, and now and then
// the process sleeps, for up to an hour.
type unruly struct {
	bucket.Bucket
	mu     sync.Mutex
	random *rand.Rand
}

func (u *unruly) draw(n int) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.random.IntN(n)
}

// signature is how old a request may be when it arrives.
const signature = 15 * time.Minute

func (u *unruly) around(call func() error) error {
	pause := func() {
		switch u.draw(12) {
		case 0:
			time.Sleep(time.Duration(u.draw(3600)) * time.Second)
		case 1, 2:
			time.Sleep(time.Duration(u.draw(40_000)) * time.Millisecond)
		default:
			time.Sleep(time.Duration(u.draw(100)) * time.Millisecond)
		}
	}
	sent := time.Now()
	pause()
	if time.Since(sent) > signature {
		return &bucket.Error{Kind: bucket.ErrAccessDenied}
	}
	switch u.draw(12) {
	case 0:
		return &bucket.Error{Kind: bucket.ErrServer}
	case 1:
		_ = call() // the answer is lost
		return &bucket.Error{Kind: bucket.ErrUnreachable}
	}
	err := call()
	pause()
	return err
}

func (u *unruly) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (info bucket.Info, err error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return info, err
	}
	err = u.around(func() (err error) {
		info, err = bucket.PutIf(ctx, u.Bucket, key, bytes.NewReader(data), cond)
		return err
	})
	return info, err
}

func (u *unruly) Get(ctx context.Context, key string, r bucket.Range) (body io.ReadCloser, info bucket.Info, err error) {
	err = u.around(func() (err error) {
		body, info, err = u.Bucket.Get(ctx, key, r)
		return err
	})
	return body, info, err
}

func (u *unruly) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		if err := u.around(func() error { return nil }); err != nil {
			yield(bucket.Info{}, err)
			return
		}
		for info, err := range u.Bucket.List(ctx, prefix, after) {
			if !yield(info, err) {
				return
			}
		}
	}
}

// tenure is the time in which a process may acknowledge.
type tenure struct {
	process int
	epoch   uint64
	began   time.Time // when it was open
}

// acknowledgement is a write that went well.
type acknowledgement struct {
	process int
	called  time.Time
}

// fenceHistory lets three nodes with clocks that jump own one prefix, each taking it over from the others by force,
// for some hours of a clock that costs nothing. It returns the first acknowledgement of a write that began when
// another process was the owner already, "" if there is none.
func fenceHistory(t *testing.T, seed uint64, change func(*fence)) (violation string, acks int) {
	store := mem.New()
	var mu sync.Mutex
	var tenures []tenure
	var done []acknowledgement
	var all sync.WaitGroup
	for p := range 3 {
		random := rand.New(rand.NewPCG(seed, uint64(p)))
		u := &unruly{Bucket: store, random: rand.New(rand.NewPCG(seed, 100+uint64(p)))}
		fs := vfs.NewMem()
		all.Go(func() {
			start := time.Now()
			var jump atomic.Int64
			clock := &chain.Clock{Mono: func() time.Duration { return time.Since(start) }, Wall: func() time.Time { return time.Now().Add(time.Duration(jump.Load())).Round(0) }}
			for life := range 4 {
				time.Sleep(time.Duration(random.IntN(600)) * time.Second)
				process := 10*p + life
				n, err := openNode(fs, "/journal")
				if err != nil {
					t.Error(err)
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				f, err := openFence(ctx, u, fenceOptions{prefix: "root/", node: n, host: fmt.Sprint("host", p), takeOver: true, clock: clock, life: ctx, change: change})
				if err == nil {
					mu.Lock()
					tenures = append(tenures, tenure{process, f.c.Epoch(), time.Now()})
					mu.Unlock()
					for range 30 {
						called := time.Now()
						var err error
						if random.IntN(4) == 0 {
							err = f.retire(ctx, fmt.Sprint("object", random.IntN(5)))
						} else {
							err = f.certain(ctx)
						}
						if err == nil {
							mu.Lock()
							done = append(done, acknowledgement{process, called})
							mu.Unlock()
						}
						if errors.Is(err, ErrReplaced) {
							break
						}
						time.Sleep(time.Duration(random.IntN(20_000)) * time.Millisecond)
						if random.IntN(5) == 0 {
							jump.Store(int64(random.IntN(1200)-600) * int64(time.Second))
						}
					}
					if random.IntN(3) == 0 {
						f.close(ctx)
					}
					f.c.Abandon()
				}
				cancel()
				if err := n.lock.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	time.Sleep(time.Hour) // questions that are under way end
	for _, a := range done {
		var own uint64
		for _, w := range tenures {
			if w.process == a.process {
				own = w.epoch
			}
		}
		for _, w := range tenures {
			if w.epoch > own && w.began.Before(a.called) {
				return fmt.Sprintf("process %d acknowledged at %s, and process %d was the owner since %s", a.process, a.called, w.process, w.began), len(done)
			}
		}
	}
	return "", len(done)
}

// TestNoTwoOwnersAcknowledge: after a takeover the one before acknowledges nothing that begins then, whatever clocks
// and requests do. Without the wait of the one that takes over, and with a proof that is good for ever, there are
// violations.
func TestNoTwoOwnersAcknowledge(t *testing.T) {
	seed := gate.Random(t).Uint64()
	run := func(seed uint64, change func(*fence)) (violation string, acks int) {
		synctest.Test(t, func(t *testing.T) { violation, acks = fenceHistory(t, seed, change) })
		return violation, acks
	}
	total := 0
	for i := range uint64(gate.Histories(t, 30, 300, 10_000)) {
		violation, acks := run(seed+i, nil)
		require.Empty(t, violation, "seed %d", seed+i)
		total += acks
	}
	require.Positive(t, total)
	for name, change := range map[string]func(*fence){
		"no wait":          func(f *fence) { f.broken.noWait = true },
		"a proof for ever": func(f *fence) { f.lease = 1000 * time.Hour; f.broken.noWait = true },
	} {
		found, tries := false, uint64(0)
		for ; tries < 10_000 && !found; tries++ {
			violation, _ := run(seed+tries, change)
			found = violation != ""
		}
		require.True(t, found, "%s: the histories do not find it", name)
		t.Logf("%s: found by history %d", name, tries)
	}
}

// repo is a disk with the store in it, if that is open.
type repo struct {
	name string
	fs   vfs.FS
	p    *Packed
	b    *latch
	acks map[string]bool // blocks that were acknowledged here and may be in no bucket yet
}

// latch is the way of one process to the bucket. It can be shut for good, as a kill does, and hold deletions back
// until they are let go, as the network does.
type latch struct {
	bucket.Bucket
	mu   sync.Mutex
	dead bool
	hold bool
	held [][]string
}

var errDead = errors.New("the process is dead")

func (l *latch) state() (dead, hold bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead, l.hold
}

func (l *latch) Put(ctx context.Context, key string, body io.ReadSeeker) error {
	if dead, _ := l.state(); dead {
		return errDead
	}
	return l.Bucket.Put(ctx, key, body)
}

func (l *latch) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (bucket.Info, error) {
	if dead, _ := l.state(); dead {
		return bucket.Info{}, errDead
	}
	return bucket.PutIf(ctx, l.Bucket, key, body, cond)
}

func (l *latch) Get(ctx context.Context, key string, r bucket.Range) (io.ReadCloser, bucket.Info, error) {
	if dead, _ := l.state(); dead {
		return nil, bucket.Info{}, errDead
	}
	return l.Bucket.Get(ctx, key, r)
}

func (l *latch) Delete(ctx context.Context, keys ...string) error {
	dead, hold := l.state()
	if dead {
		return errDead
	}
	if hold {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.held = append(l.held, keys)
		return &bucket.Error{Op: bucket.OpDelete, Kind: bucket.ErrUnreachable}
	}
	return l.Bucket.Delete(ctx, keys...)
}

// prefixHistory lets three repos, copies and backups of them work on one prefix, and returns what was lost of what
// was acknowledged and is pinned.
func prefixHistory(t *testing.T, seed uint64, change func(*fence)) (lost string) {
	random := rand.New(rand.NewPCG(seed, 1))
	store := mem.New()
	blocks := blocksOf(t, 6, 300)
	pinned := map[int]bool{}
	repos := []*repo{}
	for i := range 3 {
		repos = append(repos, &repo{name: fmt.Sprint("repo", i), fs: vfs.NewMem(), acks: map[string]bool{}})
	}
	backups := map[int]*repo{}
	var late []func()
	var trace strings.Builder
	note := func(format string, args ...any) { fmt.Fprintf(&trace, format+"\n", args...) }
	start := func(r *repo, force bool) bool {
		r.b = &latch{Bucket: store}
		s := &site{b: r.b, fs: r.fs, c: packs(), o: parts{manual: true, change: change}}
		s.c.PackSize, s.c.TakeOver, s.o.lease, s.o.pause = 1<<20, force, time.Millisecond, time.Millisecond
		p, err := s.tryOpen(t)
		note("%s starts, by force %v: %v", r.name, force, err)
		if err != nil {
			require.ErrorIs(t, err, ErrOwned)
			return false
		}
		r.p = p
		return true
	}
	kill := func(r *repo) {
		if r.p == nil {
			return
		}
		note("%s is killed", r.name)
		r.b.mu.Lock()
		r.b.dead = true
		r.b.mu.Unlock()
		r.fs = cloneFS(t, r.fs)
		_ = r.p.Close()
		r.p = nil
	}
	upload := func(r *repo) {
		for i := 0; r.p.j.Stats().Segments > 0 && i < 200 && r.p.fence.lost() == nil; i++ {
			if err := r.p.j.Seal(t.Context()); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
		if r.p.j.Stats().Segments == 0 {
			clear(r.acks)
		}
		note("%s uploads, %d segments stay", r.name, r.p.j.Stats().Segments)
	}
	legal := func(err error) {
		if err != nil && !errors.Is(err, ErrReplaced) && !errors.Is(err, bucket.ErrUnreachable) {
			require.NoError(t, err, trace.String())
		}
	}
	for range 60 {
		r := repos[random.IntN(len(repos))]
		what := random.IntN(14)
		if r.p == nil && what < 10 {
			start(r, random.IntN(2) == 0)
			continue
		}
		switch what {
		case 0, 1, 2:
			i := random.IntN(len(blocks))
			err := r.p.Put(t.Context(), blocks[i].key, blocks[i].value)
			note("%s puts %d: %v", r.name, i, err)
			legal(err)
			if err == nil {
				pinned[i] = true
				r.acks[blocks[i].key.String()] = true
			}
		case 3, 4:
			upload(r)
		case 5: // something is unpinned, and garbage collected
			for range 3 {
				delete(pinned, random.IntN(len(blocks)))
			}
			for j := range blocks {
				if !pinned[j] {
					legal(r.p.Delete(t.Context(), blocks[j].key))
				}
			}
			note("%s collects all but %v", r.name, pinned)
		case 6, 7:
			hold := random.IntN(3) == 0
			r.b.mu.Lock()
			r.b.hold = hold
			r.b.mu.Unlock()
			err := r.p.compactAll(t.Context(), 0, func(Progress) {})
			note("%s compacts, deletions held back %v: %v", r.name, hold, err)
			legal(err)
			r.b.mu.Lock()
			r.b.hold = false
			for _, keys := range r.b.held {
				late = append(late, func() { require.NoError(t, store.Delete(t.Context(), keys...)) })
			}
			r.b.held = nil
			r.b.mu.Unlock()
		case 8:
			note("%s is stopped", r.name)
			require.NoError(t, r.p.Close())
			r.p = nil
		case 9:
			kill(r)
		case 10:
			note("a backup of %s", r.name)
			backups[random.IntN(2)] = &repo{fs: cloneFS(t, r.fs)}
		case 11:
			if of := backups[random.IntN(2)]; of != nil {
				kill(r)
				note("%s is a restored backup", r.name)
				for i, one := range blocks { // what was nowhere else is gone
					if r.acks[one.key.String()] {
						delete(pinned, i)
					}
				}
				r.fs, r.acks = cloneFS(t, of.fs), map[string]bool{}
			}
		default:
			if len(late) > 0 {
				note("a deletion arrives late")
				late[0]()
				late = late[1:]
			}
		}
	}
	for _, r := range repos {
		kill(r)
	}
	for _, do := range late {
		do()
	}
	for _, r := range repos {
		require.True(t, start(r, true))
		upload(r)
		require.Zero(t, r.p.j.Stats().Segments, trace.String())
		require.NoError(t, r.p.Close())
	}
	fresh := &repo{name: "fresh", fs: vfs.NewMem()}
	require.True(t, start(fresh, false), "all were stopped")
	defer func() { require.NoError(t, fresh.p.Close()) }()
	for i, one := range blocks {
		if !pinned[i] {
			continue
		}
		got, err := fresh.p.Get(t.Context(), one.key)
		if err != nil || !bytes.Equal(got, one.value) {
			return fmt.Sprintf("block %d is pinned: %v\n%s", i, err, trace.String())
		}
	}
	return ""
}

// TestNothingPinnedIsLostToAnotherNode: nodes that take a prefix over from each other, kills, copies, backups that
// are restored, and deletions that arrive late.
func TestNothingPinnedIsLostToAnotherNode(t *testing.T) {
	seed := gate.Random(t).Uint64()
	for i := range uint64(gate.Histories(t, 20, 300, 10_000)) {
		lost := prefixHistory(t, seed+i, nil)
		require.Empty(t, lost, "seed %d", seed+i)
	}
	if !gate.Full() { // with every change, tests of single scenes show what each part is for
		return
	}
	for name, change := range map[string]func(*fence){
		"judgements of the dead stay": func(f *fence) { f.broken.keepDead = true },
		"deletion without a record":   func(f *fence) { f.broken.noRecord = true },
		"no fence":                    func(f *fence) { f.broken.off = true },
	} {
		found, tries := false, uint64(0)
		for ; tries < 10_000 && !found; tries++ {
			found = prefixHistory(t, seed+tries, change) != ""
		}
		require.True(t, found, "%s: the histories do not find it", name)
		t.Logf("%s: found by history %d", name, tries)
	}
}
