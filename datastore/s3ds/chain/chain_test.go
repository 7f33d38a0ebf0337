package chain

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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

var rewrite = flag.Bool("rewrite-chain", false, "write the golden files again")

func TestMain(m *testing.M) {
	if !sleeper() {
		s3test.Main(m)
	}
}

const root = "p/.ipfs-aws/chain"

func open(t testing.TB, b bucket.Bucket, node string) *Chain {
	t.Helper()
	c, err := Open(t.Context(), b, root, Options{Node: node, Host: "host-of-" + node})
	require.NoError(t, err)
	t.Cleanup(c.Abandon)
	return c
}

func add(t testing.TB, c *Chain, data string) uint64 {
	t.Helper()
	seq, err := c.Append(t.Context(), []byte(data))
	require.NoError(t, err)
	return seq
}

// content is what a reader gets: the snapshot, then all data behind it.
func content(t testing.TB, s State) string {
	t.Helper()
	text := string(s.Snapshot)
	for _, r := range s.Records {
		text += string(bytes.Join(r.Parts, nil))
	}
	return text
}

func TestLifeOfAChain(t *testing.T) {
	b := mem.New()
	a := open(t, b, "a")
	require.Equal(t, uint64(1), a.Epoch())
	require.Equal(t, uint64(1), add(t, a, "x"))
	require.Equal(t, uint64(2), add(t, a, "y"))
	require.NoError(t, a.Confirm(t.Context()))
	c := open(t, b, "c")
	require.Equal(t, "xy", content(t, c.State()))
	require.Equal(t, uint64(2), c.Epoch())
	_, err := a.Append(t.Context(), []byte("z"))
	var fenced *FencedError
	require.ErrorAs(t, err, &fenced)
	require.Equal(t, "c", fenced.By.Node)
	require.ErrorContains(t, err, `node "c" on host "host-of-c", epoch 2`)
	require.ErrorIs(t, a.Confirm(t.Context()), ErrFenced)
	require.ErrorIs(t, a.Snapshot(t.Context(), 1, strings.NewReader("x")), ErrFenced)
	require.NoError(t, a.Close(t.Context()))
	require.NoError(t, c.Snapshot(t.Context(), c.Next(), strings.NewReader("xy")))
	require.NoError(t, c.Close(t.Context()))
	_, err = c.Append(t.Context(), nil)
	require.ErrorIs(t, err, ErrClosed)
	d := open(t, b, "d")
	require.Equal(t, "xy", content(t, d.State()))
	require.Equal(t, Closed, d.State().Records[0].Kind)
}

func TestApproveDecides(t *testing.T) {
	b := mem.New()
	open(t, b, "a")
	no := errors.New("no")
	_, err := Open(t.Context(), b, root, Options{Node: "b", Approve: func(newest Record, exists bool) error {
		require.True(t, exists)
		require.Equal(t, "a", newest.Node)
		return no
	}})
	require.ErrorIs(t, err, no)
	n := 0
	for range b.List(t.Context(), "", "") {
		n++
	}
	require.Equal(t, 1, n, "nothing was written")
}

// TestCallersShareARecord: those that come while a PUT is under way wait for one more, all of them.
func TestCallersShareARecord(t *testing.T) {
	log := &recorded.Log{}
	held := &heldBucket{Bucket: mem.New(), begun: make(chan struct{}, 1), goOn: make(chan struct{})}
	c := open(t, recorded.Wrap(held, log), "a")
	held.hold = true
	log.Section("101 appends")
	var all sync.WaitGroup
	one := func(i int) {
		if _, err := c.Append(context.Background(), fmt.Appendf(nil, "%d,", i)); err != nil {
			t.Error(err)
		}
	}
	all.Go(func() { one(0) })
	<-held.begun
	for i := range 100 {
		all.Go(func() { one(1 + i) })
	}
	for waiting := 0; waiting < 100; {
		c.mu.Lock()
		waiting = len(c.queue)
		c.mu.Unlock()
	}
	close(held.goOn)
	all.Wait()
	require.Equal(t, 2, strings.Count(log.String()[strings.Index(log.String(), "101 appends"):], "put "), log.String())
	d := open(t, held.Bucket, "d")
	require.Len(t, strings.Split(content(t, d.State()), ","), 102)
	require.Len(t, d.State().Records[2].Parts, 100)
}

// heldBucket holds the first conditional put back.
type heldBucket struct {
	*mem.Bucket
	hold        bool
	once        sync.Once
	begun, goOn chan struct{}
}

func (h *heldBucket) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (bucket.Info, error) {
	if h.hold {
		h.once.Do(func() { h.begun <- struct{}{} })
		<-h.goOn
	}
	return h.Bucket.PutIf(ctx, key, body, cond)
}

func TestLostAnswers(t *testing.T) {
	bad := faulty.Wrap(mem.New())
	lost := func(times int) {
		bad.Set(faulty.Rule{Op: bucket.OpPut, Times: times, Err: &bucket.Error{Op: bucket.OpPut, Kind: bucket.ErrUnreachable}, Late: true})
	}
	lost(1)
	a := open(t, bad, "a")
	lost(1)
	require.Equal(t, uint64(1), add(t, a, "x"))
	lost(2)
	bad.Set(faulty.Rule{Op: bucket.OpPut, Times: 1, Err: &bucket.Error{Op: bucket.OpPut, Kind: bucket.ErrUnreachable}, Late: true},
		faulty.Rule{Err: &bucket.Error{Op: bucket.OpPut, Kind: bucket.ErrUnreachable}})
	_, err := a.Append(t.Context(), []byte("y"))
	require.ErrorIs(t, err, bucket.ErrUnreachable, "it is not known")
	bad.Set()
	require.NoError(t, a.Confirm(t.Context()), "the record is its own")
	require.Equal(t, uint64(3), add(t, a, "z"))
	require.Equal(t, "xyz", content(t, open(t, bad, "c").State()))
}

// TestSleeperIsFencedThoughItsNumberWasTrimmed is the hole: the number that a sleeper takes next was taken, and trimmed.
func TestSleeperIsFencedThoughItsNumberWasTrimmed(t *testing.T) {
	for name, act := range map[string]func(*Chain) error{
		"append":  func(c *Chain) error { _, err := c.Append(context.Background(), []byte("lost")); return err },
		"confirm": func(c *Chain) error { return c.Confirm(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1_800_000_000, 0)
			b := mem.New()
			b.Now = func() time.Time { return now }
			clock := &Clock{func() time.Duration { return time.Duration(now.UnixNano()) }, func() time.Time { return now }}
			start := func(node string) *Chain {
				c, err := Open(t.Context(), b, root, Options{Node: node, Clock: clock})
				require.NoError(t, err)
				return c
			}
			a := start("a")
			c := start("c")
			add(t, c, "x")
			require.NoError(t, c.Snapshot(t.Context(), c.Next(), strings.NewReader("x")))
			now = now.Add(trimAge)
			add(t, c, "y")
			require.NoError(t, c.Trim(t.Context()))
			_, err := b.Head(t.Context(), key(root, 1))
			require.NoError(t, err, "to the second")
			now = now.Add(2 * time.Second)
			add(t, c, "z")
			require.NoError(t, c.Trim(t.Context()))
			_, err = b.Head(t.Context(), key(root, 1))
			require.ErrorIs(t, err, bucket.ErrNotFound)
			require.ErrorIs(t, act(a), ErrFenced)
			require.Equal(t, "xyz", content(t, start("d").State()))
		})
	}
}

func TestFollower(t *testing.T) {
	b := mem.New()
	now := time.Unix(1_800_000_000, 0)
	b.Now = func() time.Time { return now }
	clock := &Clock{func() time.Duration { return time.Duration(now.UnixNano()) }, func() time.Time { return now }}
	c, err := Open(t.Context(), b, root, Options{Node: "a", Clock: clock})
	require.NoError(t, err)
	f := Follow(b, root, 0)
	f.clock = clock
	add(t, c, "x")
	for i := range uint64(2) {
		r, err := f.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, i, r.Seq)
	}
	_, err = f.Next(t.Context())
	require.ErrorIs(t, err, ErrNone)
	for range 5 {
		add(t, c, "y")
	}
	require.NoError(t, c.Snapshot(t.Context(), c.Next(), strings.NewReader("xyyyyy")))
	now = now.Add(trimAge + 2*time.Second)
	add(t, c, "z")
	require.NoError(t, c.Trim(t.Context()))
	_, err = f.Next(t.Context())
	require.ErrorIs(t, err, ErrGap)
	late := Follow(b, root, 7)
	_, err = late.Next(t.Context())
	require.NoError(t, err)
}

func TestDamageIsNamed(t *testing.T) {
	for name, spoil := range map[string]func(b *mem.Bucket) error{
		"a record is missing": func(b *mem.Bucket) error { return b.Delete(context.Background(), key(root, 1)) },
		"a record is cut": func(b *mem.Bucket) error {
			return b.Put(context.Background(), key(root, 1), strings.NewReader(`{"v":1`))
		},
		"a release to come": func(b *mem.Bucket) error {
			return b.Put(context.Background(), key(root, 1), strings.NewReader("{\"v\":2}\n"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			c := open(t, b, "a")
			add(t, c, "x")
			add(t, c, "y")
			require.NoError(t, spoil(b))
			_, err := Open(t.Context(), b, root, Options{Node: "b"})
			require.ErrorIs(t, err, ErrDamaged)
			require.ErrorContains(t, err, root)
		})
	}
}

// TestRequests pins what the operations cost.
func TestRequests(t *testing.T) {
	log := &recorded.Log{}
	b := recorded.Wrap(mem.New(), log)
	log.Section("first open")
	a := open(t, b, "a")
	log.Section("append")
	add(t, a, "x")
	log.Section("confirm")
	require.NoError(t, a.Confirm(t.Context()))
	log.Section("idle")
	log.Section("takeover with 2 records")
	c := open(t, b, "c")
	log.Section("the replaced owner appends")
	_, err := a.Append(t.Context(), nil)
	require.ErrorIs(t, err, ErrFenced)
	log.Section("and again, and asks")
	_, err = a.Append(t.Context(), nil)
	require.ErrorIs(t, err, ErrFenced)
	require.ErrorIs(t, a.Confirm(t.Context()), ErrFenced)
	log.Section("snapshot and trim")
	require.NoError(t, c.Snapshot(t.Context(), c.Next(), strings.NewReader("x")))
	require.NoError(t, c.Trim(t.Context()))
	log.Section("close")
	require.NoError(t, c.Close(t.Context()))
	log.Section("takeover with a snapshot and 1 record")
	open(t, b, "d")
	log.Section("follow: 1 record, then none, then none")
	f := Follow(b, root, 4)
	_, err = f.Next(t.Context())
	require.NoError(t, err)
	for range 2 {
		_, err = f.Next(t.Context())
		require.ErrorIs(t, err, ErrNone)
	}
	file := filepath.Join("testdata", "requests.txt")
	if *rewrite {
		require.NoError(t, os.WriteFile(file, []byte(log.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), log.String())
}
