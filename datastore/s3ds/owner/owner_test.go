package owner

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/recorded"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

func TestMain(m *testing.M) {
	if waker() {
		return
	}
	s3test.Main(m)
}

const key = "root/.ipfs-aws-owner"

var errDown = errors.New("bucket is down")

// world is a bucket with a virtual clock that everybody shares. Nodes add offsets of their own.
type world struct {
	mu   sync.Mutex
	time time.Time
	mem  *mem.Bucket
	bad  *faulty.Bucket
	log  *recorded.Log
	b    bucket.Bucket
}

func newWorld() *world {
	w := &world{time: time.Unix(1_800_000_000, 0), mem: mem.New(), log: &recorded.Log{}}
	w.mem.Now = w.now
	w.bad = faulty.Wrap(w.mem)
	w.b = recorded.Wrap(w.bad, w.log)
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

// node returns options of a node whose clock is wrong by skew.
func (w *world) node(id string, skew time.Duration) Options {
	return Options{Key: key, ID: id, Host: "host-of-" + id, grace: grace, now: func() time.Time { return w.now().Add(skew) }}
}

func acquire(t *testing.T, w *world, id string) *Owner {
	t.Helper()
	o, err := Acquire(t.Context(), w.b, w.node(id, 0))
	require.NoError(t, err)
	return o
}

func TestSecondNodeIsRefusedAndToldWho(t *testing.T) {
	w := newWorld()
	acquire(t, w, "a")
	w.pass(30 * time.Second)
	_, err := Acquire(t.Context(), w.b, w.node("b", 240*time.Hour))
	require.ErrorIs(t, err, ErrOwned)
	var owned *OwnedError
	require.ErrorAs(t, err, &owned)
	require.Equal(t, "a", owned.Owner.ID)
	require.Equal(t, w.now().Add(35*time.Second).UTC(), owned.Expires)
	for _, part := range []string{`node "a"`, `host "host-of-a"`, key, owned.Expires.Format(time.RFC3339), "stop that node"} {
		require.Contains(t, err.Error(), part)
	}
	require.NotContains(t, err.Error(), "\n")
}

func TestOwnerThatDiedIsReplacedAfterItsLease(t *testing.T) {
	w := newWorld()
	a := acquire(t, w, "a")
	w.pass(DefaultLease + grace)
	_, err := Acquire(t.Context(), w.b, w.node("b", 0))
	require.ErrorIs(t, err, ErrOwned, "to the second")
	w.pass(time.Second)
	b := acquire(t, w, "b")
	require.EqualValues(t, 2, b.Status().Record.Epoch)
	require.NoError(t, b.Hold(t.Context()))
	for range 2 {
		err = a.Hold(t.Context())
		require.ErrorIs(t, err, ErrReplaced)
		require.Contains(t, err.Error(), `node "b"`)
	}
	w.pass(2 * DefaultLease)
	require.ErrorIs(t, a.Hold(t.Context()), ErrReplaced, "for good, although the lease of b has run out")
}

func TestNodeTakesItsOwnBackAtOnce(t *testing.T) {
	w := newWorld()
	first := acquire(t, w, "a")
	w.log.Section("again")
	second := acquire(t, w, "a")
	require.EqualValues(t, 1, second.Status().Record.Epoch)
	require.NoError(t, second.Hold(t.Context()))
	w.pass(DefaultLease)
	require.ErrorIs(t, first.Hold(t.Context()), ErrReplaced, "the process before lives on, in a copy of the folder")
}

func TestRequests(t *testing.T) {
	w := newWorld()
	w.log.Section("first start")
	a := acquire(t, w, "a")
	hold := func() {
		t.Helper()
		require.NoError(t, a.Hold(t.Context()))
	}
	w.log.Section("1,000 writes in 39 s")
	for range 1000 {
		hold()
		w.pass(39 * time.Millisecond)
	}
	w.log.Section("an hour of nothing")
	w.pass(time.Hour)
	w.log.Section("1,000 writes at once after that")
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if err := a.Hold(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.log.Section("a write when a third of the lease is left")
	w.pass(41 * time.Second)
	hold()
	a.idle()
	hold()
	w.log.Section("restart within the lease: release, take back, first write")
	require.NoError(t, a.Release(t.Context()))
	require.ErrorIs(t, a.Hold(t.Context()), ErrReleased)
	require.NoError(t, a.Release(t.Context()))
	a = acquire(t, w, "a")
	hold()
	w.log.Section("release after the lease")
	w.pass(DefaultLease)
	require.NoError(t, a.Release(t.Context()))
	require.Equal(t, `# first start
get root/.ipfs-aws-owner: miss
put root/.ipfs-aws-owner if absent: ok

# 1,000 writes in 39 s
(nothing)

# an hour of nothing
(nothing)

# 1,000 writes at once after that
put root/.ipfs-aws-owner if unchanged: ok

# a write when a third of the lease is left
put root/.ipfs-aws-owner if unchanged: ok

# restart within the lease: release, take back, first write
get root/.ipfs-aws-owner: ok
put root/.ipfs-aws-owner if unchanged: ok
put root/.ipfs-aws-owner if unchanged: ok

# release after the lease
(nothing)
`, w.log.String())
}

// idle waits for a renewal in the background.
func (w *Owner) idle() {
	w.mu.Lock()
	r := w.running
	w.mu.Unlock()
	if r != nil {
		<-r.done
	}
}

func TestReleaseLetsTheNextNodeIn(t *testing.T) {
	w := newWorld()
	require.NoError(t, acquire(t, w, "a").Release(t.Context()))
	b := acquire(t, w, "b")
	require.EqualValues(t, 2, b.Status().Record.Epoch)
}

func TestLostAnswersOfOwnWritesAreNoTakeover(t *testing.T) {
	w := newWorld()
	lost := faulty.Rule{Op: bucket.OpPut, Times: 1, Err: errDown, Late: true}
	w.bad.Set(lost)
	_, err := Acquire(t.Context(), w.b, w.node("a", 0))
	require.ErrorIs(t, err, errDown)
	a := acquire(t, w, "a")
	w.bad.Set(lost)
	require.ErrorIs(t, a.Hold(t.Context()), errDown)
	require.NoError(t, a.Hold(t.Context()))
}

func TestLateWriteOfTheProcessBeforeIsNoTakeover(t *testing.T) {
	w := newWorld()
	before := acquire(t, w, "a")
	a := acquire(t, w, "a")
	require.NoError(t, before.rewrite(t.Context(), DefaultLease), "a request that was on its way when the process died")
	require.NoError(t, a.Hold(t.Context()))
}

func TestWithoutTheBucketNothingIsCertain(t *testing.T) {
	w := newWorld()
	a := acquire(t, w, "a")
	w.bad.Set(faulty.Rule{Err: errDown})
	w.pass(50 * time.Second)
	require.NoError(t, a.Hold(t.Context()), "the lease is still good")
	a.idle()
	w.pass(10 * time.Second)
	err := a.Hold(t.Context())
	require.ErrorIs(t, err, errDown)
	require.NotErrorIs(t, err, ErrReplaced)
	w.bad.Set()
	require.NoError(t, a.Hold(t.Context()))
}

func TestObjectThatWasDeletedIsMadeAgain(t *testing.T) {
	w := newWorld()
	a := acquire(t, w, "a")
	require.NoError(t, w.mem.Delete(t.Context(), key))
	w.pass(DefaultLease)
	require.NoError(t, a.Hold(t.Context()))
	_, _, err := read(t.Context(), w.mem, key)
	require.NoError(t, err)
}

func TestForeignObjectIsLeftAlone(t *testing.T) {
	for name, content := range map[string]string{
		"no JSON": "hello", "empty": "", "future": `{"version":2,"id":"x"}`, "no id": `{"version":1}`, "bad lease": `{"version":1,"id":"x","leaseSeconds":-1}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			require.NoError(t, w.mem.Put(t.Context(), key, bytes.NewReader([]byte(content))))
			_, err := Acquire(t.Context(), w.b, w.node("a", 0))
			require.ErrorContains(t, err, "not an owner record")
			require.NotErrorIs(t, err, ErrOwned)
		})
	}
}

func TestWithoutATimeFromTheServerNothingExpires(t *testing.T) {
	r := Record{Lease: 60}
	now := time.Unix(1_800_000_000, 0)
	require.False(t, expired(r, bucket.Info{}, 0))
	require.False(t, expired(r, bucket.Info{Clock: now}, 0))
	require.False(t, expired(r, bucket.Info{Modified: now}, 0))
	require.True(t, expired(r, bucket.Info{Modified: now, Clock: now.Add(61 * time.Second)}, 0))
	require.True(t, expired(Record{}, bucket.Info{}, 0), "released")
}

func TestBadOptionsAreRefused(t *testing.T) {
	for _, o := range []Options{{ID: "a"}, {Key: "k"}, {Key: "k", ID: "a", Lease: time.Millisecond}, {Key: "k", ID: "a", Lease: 1500 * time.Millisecond}} {
		_, err := Acquire(t.Context(), mem.New(), o)
		require.Error(t, err)
	}
}

func TestHoldObeysItsContext(t *testing.T) {
	w := newWorld()
	a := acquire(t, w, "a")
	w.pass(DefaultLease)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stuck := make(chan struct{})
	a.b = stuckBucket{w.b, stuck}
	require.ErrorIs(t, a.Hold(ctx), context.Canceled)
	close(stuck)
	require.NoError(t, a.Hold(t.Context()))
}

// stuckBucket answers nothing until it is released.
type stuckBucket struct {
	bucket.Bucket
	release chan struct{}
}

func (s stuckBucket) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (bucket.Info, error) {
	<-s.release
	return bucket.PutIf(ctx, s.Bucket, key, body, cond)
}
