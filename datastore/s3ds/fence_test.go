package s3ds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/recorded"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/chain"
)

// logged collects what a store says for the log.
func (s *site) logged() *bytes.Buffer {
	var b bytes.Buffer
	s.c.Log = func(line string) { fmt.Fprintln(&b, line) }
	return &b
}

var realFS = vfs.Default

func cloneFS(t testing.TB, fs vfs.FS) vfs.FS {
	t.Helper()
	to := vfs.NewMem()
	ok, err := vfs.Clone(fs, to, "/", "/")
	require.NoError(t, err)
	require.True(t, ok)
	return to
}

// stable replaces what is random in a log of requests: the names of packs.
func stable(log string) string {
	return regexp.MustCompile(`[0-9a-f]{12}-[a-z0-9]+-[0-9a-f]{12}-[0-9a-f]{8}`).ReplaceAllString(log, "PACK")
}

// copied is a site with a copy of the disk.
func (s *site) copied(t testing.TB) *site {
	t.Helper()
	c := *s
	c.fs = cloneFS(t, s.fs)
	return &c
}

// dies ends a store without a word, as a kill does, and gives the site the disk that is left.
func (s *site) dies(t testing.TB, p *Packed) {
	t.Helper()
	s.fs = cloneFS(t, s.fs)
	p.fence.c.Abandon()
}

func TestIdleNodeOwnsItsPrefix(t *testing.T) {
	b := mem.New()
	ahead := time.Duration(0)
	b.Now = func() time.Time { return time.Now().Add(ahead) }
	p := newSite(b).open(t)
	ahead = 100 * time.Hour
	second := newSite(b)
	_, err := second.tryOpen(t)
	require.ErrorIs(t, err, ErrOwned)
	for _, part := range []string{p.node.id, p.host, "rootDirectory", "IPFS_S3_TAKE_OVER=1", "--take-over"} {
		require.ErrorContains(t, err, part)
	}
	require.NoError(t, p.Put(t.Context(), blocksOf(t, 1, 10)[0].key, blocksOf(t, 1, 10)[0].value), "it goes on")

	log := second.takeOver().logged()
	second.open(t)
	require.Contains(t, log.String(), "taken over from node \""+p.node.id)
}

func TestPrefixThatWasLeftInOrderIsFree(t *testing.T) {
	b := mem.New()
	for range 3 {
		require.NoError(t, newSite(b).open(t).Close())
	}
}

func TestKilledNodeIsItsOwnSuccessor(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	all := blocksOf(t, 20, 100)
	for n := range 4 {
		p := s.open(t)
		require.EqualValues(t, n+1, p.stat().Owner.Epoch)
		putAll(t, p, all[5*n:5*n+5])
		requireAll(t, p, all[:5*n+5])
		s.dies(t, p)
	}
}

// A copy of the folder of a node that runs has its id and knows its session.
func TestCopyOfALiveRepoIsRefused(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	p := s.open(t)
	twin := s.copied(t)
	n, err := openNode(twin.fs, twin.c.withPackDefaults("/repo").JournalPath)
	require.NoError(t, err)
	n.folder, n.moved = "another inode", true // as fileIdentity says on a real disk
	require.NoError(t, n.lock.Close())
	_, err = openFence(t.Context(), b, fenceOptions{prefix: "root/", node: n, host: "elsewhere", life: t.Context()})
	require.ErrorIs(t, err, ErrOwned)
	require.ErrorContains(t, err, "copy")
	require.NoError(t, p.Close())
	f, err := openFence(t.Context(), b, fenceOptions{prefix: "root/", node: n, host: "elsewhere", life: t.Context()})
	require.NoError(t, err, "it ended in order")
	_, err = s.tryOpen(t)
	require.ErrorContains(t, err, `on host "elsewhere"`)
	require.True(t, f.close(t.Context()))
}

func TestFileIdentityTellsACopy(t *testing.T) {
	dir := t.TempDir()
	c := Config{JournalPath: dir + "/a"}
	n, err := openNode(realFS, c.JournalPath)
	require.NoError(t, err)
	require.NoError(t, n.began("", "session"))
	require.NoError(t, n.lock.Close())
	again, err := openNode(realFS, c.JournalPath)
	require.NoError(t, err)
	require.True(t, again.was("session"))
	require.False(t, again.was("another"))
	require.NoError(t, again.lock.Close())
	require.NoError(t, os.CopyFS(filepath.Join(dir, "b"), os.DirFS(filepath.Join(dir, "a"))))
	twin, err := openNode(realFS, dir+"/b")
	require.NoError(t, err)
	require.Equal(t, n.id, twin.id)
	require.False(t, twin.was("session"))
	require.NoError(t, twin.lock.Close())
}

// Former releases renewed an object; what it says is obeyed, and then it keeps them out.
func TestOwnerOfAFormerRelease(t *testing.T) {
	for name, c := range map[string]struct {
		id       string
		lease    int64
		age      time.Duration
		takeOver bool
		refused  string
	}{
		"alive":                  {"other", 60, 30 * time.Second, false, "runs a former release and has it until"},
		"alive, by force":        {"other", 60, 30 * time.Second, true, "runs a former release and has it until"},
		"silent":                 {"other", 60, time.Hour, false, "may be idle"},
		"silent, by force":       {"other", 60, time.Hour, true, ""},
		"released":               {"other", 0, 0, false, ""},
		"this node, alive":       {"self", 60, 0, false, ""},
		"this node, long silent": {"self", 60, time.Hour, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			s := newSite(b)
			n, err := openNode(s.fs, s.c.withPackDefaults("/repo").JournalPath)
			require.NoError(t, err)
			require.NoError(t, n.lock.Close())
			if c.id == "self" {
				c.id = n.id
			}
			data, err := json.Marshal(map[string]any{"version": 1, "id": c.id, "host": "h", "session": "S", "epoch": 3, "renewal": 17, "leaseSeconds": c.lease, "since": time.Now()})
			require.NoError(t, err)
			b.Now = func() time.Time { return time.Now().Add(-c.age) }
			putObject(t, b, "root/"+ownerName, data)
			b.Now = time.Now
			if c.takeOver {
				s.takeOver()
			}
			p, err := s.tryOpen(t)
			if c.refused != "" {
				require.ErrorIs(t, err, ErrOwned)
				require.ErrorContains(t, err, c.refused)
				require.ErrorContains(t, err, "other")
				return
			}
			require.NoError(t, err)
			require.NoError(t, p.Close())
			r, err := readOwner(t.Context(), b, "root/"+ownerName)
			require.NoError(t, err)
			require.Equal(t, chainOwner, r.Version, "which former releases refuse")
		})
	}
}

func TestForeignOwnerObjectIsLeftAlone(t *testing.T) {
	for name, content := range map[string]string{
		"no JSON": "hello", "empty": "", "future": `{"version":3,"id":"x"}`, "no id": `{"version":1}`, "bad lease": `{"version":1,"id":"x","leaseSeconds":-1}`,
	} {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			putObject(t, b, "root/"+ownerName, []byte(content))
			_, err := newSite(b).takeOver().tryOpen(t)
			require.ErrorContains(t, err, "not an owner record")
			require.NotErrorIs(t, err, ErrOwned)
		})
	}
}

// Another node counts on blocks that this one has deleted, and they stay; whatever it wrote is found.
func TestWhatAnotherNodeCountedOnIsAliveAgain(t *testing.T) {
	scene := func(t *testing.T, change func(*fence)) (said string, lost error) {
		b := mem.New()
		a, log := newSite(b), &recorded.Log{}
		a.o.change = change
		p := a.open(t)
		all := blocksOf(t, 40, 100)
		putAll(t, p, all[:30])
		flush(t, p)
		for _, one := range all[:30] {
			require.NoError(t, p.Delete(t.Context(), one.key))
		}
		require.NoError(t, p.Close())

		o := newSite(recorded.Wrap(b, log)).open(t)
		log.Section("the same again")
		putAll(t, o, all[:30])
		require.True(t, strings.HasSuffix(log.String(), "# the same again\n(nothing)\n"), log.String())
		putAll(t, o, all[30:])
		flush(t, o)
		require.NoError(t, o.Close())

		told := a.logged()
		p = a.open(t)
		require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
		for _, one := range all {
			_, err := p.Get(t.Context(), one.key)
			lost = errors.Join(lost, err)
		}
		require.NoError(t, p.Close())
		if lost == nil {
			requireAll(t, newSite(b).open(t), all)
		}
		return told.String(), lost
	}
	said, lost := scene(t, nil)
	require.NoError(t, lost)
	require.Contains(t, said, "1 packs adopted with 10 blocks")
	require.Contains(t, said, "30 deleted blocks alive again")
	for _, change := range []func(*fence){func(f *fence) { f.broken.keepDead = true }, func(f *fence) { f.broken.off = true }} {
		_, lost = scene(t, change)
		require.Error(t, lost, "a scene that proves something")
	}
}

// A repo that was restored from a backup finds what was merged since.
func TestRestoredRepoFindsWhatWasMergedSince(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *Packed){
		"stopped": func(t *testing.T, p *Packed) { require.NoError(t, p.Close()) },
		"killed":  func(_ *testing.T, p *Packed) { p.fence.c.Abandon() },
	} {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			s := newSite(b)
			p := s.open(t)
			all := blocksOf(t, 30, 1000)
			for _, one := range all[:10] {
				require.NoError(t, p.Put(t.Context(), one.key, one.value))
				flush(t, p)
			}
			backup := s.copied(t)
			for _, one := range all[10:20] {
				require.NoError(t, p.Put(t.Context(), one.key, one.value))
				flush(t, p)
			}
			require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
			require.NotZero(t, p.stat().Merged)
			putAll(t, p, all[20:])
			flush(t, p)
			end(t, p)

			said := backup.logged()
			r := backup.open(t)
			requireAll(t, r, all)
			require.Contains(t, said.String(), "packs adopted")
			require.Zero(t, r.stat().Index.LooseBlocks)
		})
	}
}

// What is gone from the bucket is lost, by name, until it is put again; also after a restart.
func TestBlocksOfAVanishedPackAreLostAndCanBePutAgain(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	s.c.CacheSize = NoCache
	p := s.open(t)
	all := blocksOf(t, 20, 1000)
	putAll(t, p, all[:10])
	flush(t, p)
	object := onlyPack(t, b)
	putAll(t, p, all[10:])
	flush(t, p)
	require.NoError(t, b.Delete(t.Context(), object))
	s.dies(t, p)
	said := s.logged()
	p = s.open(t)
	require.Contains(t, said.String(), "1 packs gone and 10 blocks with them")
	for range 2 {
		for _, one := range all[:10] {
			_, err := p.Get(t.Context(), one.key)
			require.ErrorIs(t, err, ErrLost)
			has, err := p.Has(t.Context(), one.key)
			require.NoError(t, err)
			require.True(t, has, "it was acknowledged")
		}
		requireAll(t, p, all[10:])
		require.NoError(t, p.Close())
		p = s.open(t)
	}
	putAll(t, p, all[:10])
	flush(t, p)
	require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	requireAll(t, p, all)
	require.NoError(t, p.Close())
	requireAll(t, newSite(b).open(t), all)
}

// What an owner has announced to delete is not counted on, for the request may arrive late.
func TestDeletionThatArrivesLate(t *testing.T) {
	scene := func(t *testing.T, change func(*fence)) (lost error) {
		b := mem.New()
		late := &lateBucket{Bucket: b}
		s := newSite(late)
		s.o.change = change
		p := s.open(t)
		all := blocksOf(t, 10, 1000)
		putAll(t, p, all)
		flush(t, p)
		for _, one := range all {
			require.NoError(t, p.Delete(t.Context(), one.key))
		}
		late.hold.Store(true)
		over := make(chan error, 1)
		go func() { over <- p.compactAll(context.Background(), 0, func(Progress) {}) }()
		require.Eventually(t, func() bool { return late.held.Load() == 1 }, time.Minute, time.Millisecond)

		o := newSite(b).takeOver().open(t)
		putAll(t, o, all)
		flush(t, o)
		late.release()
		require.NoError(t, <-over)
		require.NoError(t, o.Close())
		fresh := newSite(b).open(t)
		for _, one := range all {
			_, err := fresh.Get(t.Context(), one.key)
			lost = errors.Join(lost, err)
		}
		return lost
	}
	require.NoError(t, scene(t, nil))
	require.Error(t, scene(t, func(f *fence) { f.broken.noRecord = true }), "a scene that proves something")
}

// lateBucket holds deletions back.
type lateBucket struct {
	*mem.Bucket
	hold atomic.Bool
	held atomic.Int64
}

func (b *lateBucket) release() { b.hold.Store(false) }

func (b *lateBucket) Delete(ctx context.Context, keys ...string) error {
	b.held.Add(1)
	for b.hold.Load() {
		time.Sleep(time.Millisecond)
	}
	return b.Bucket.Delete(ctx, keys...)
}

func TestReplacedNodeDeletesNothing(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	p := s.open(t)
	all := blocksOf(t, 10, 1000)
	putAll(t, p, all)
	flush(t, p)
	for _, one := range all {
		require.NoError(t, p.Delete(t.Context(), one.key))
	}
	o := newSite(b).takeOver().open(t)
	putAll(t, o, all)
	require.ErrorIs(t, p.compactAll(t.Context(), 0, func(Progress) {}), ErrReplaced)
	requireAll(t, o, all)
	require.ErrorIs(t, p.Check(t.Context()), ErrReplaced)
	require.ErrorIs(t, p.stat().Owner.Replaced, ErrReplaced)
}

// While the bucket cannot be asked, writes go on as far as the journal has room, and nothing is deleted. With durability bucket they wait.
func TestOutageIsRiddenOut(t *testing.T) {
	b := mem.New()
	bad := faulty.Wrap(b)
	s := newSite(bad)
	s.o.lease, s.o.pause = 20*time.Millisecond, time.Millisecond
	p := s.open(t)
	all := blocksOf(t, 40, 1000)
	putAll(t, p, all[:10])
	flush(t, p)
	require.NoError(t, p.Delete(t.Context(), all[9].key))
	down := &bucket.Error{Kind: bucket.ErrUnreachable}
	bad.Set(faulty.Rule{Err: down})
	for _, one := range all[10:] {
		require.NoError(t, p.Put(t.Context(), one.key, one.value))
		time.Sleep(5 * time.Millisecond) // several leases pass
	}
	require.Error(t, p.stat().Owner.Unknown)
	for _, one := range all[:9] {
		require.NoError(t, p.Delete(t.Context(), one.key))
	}
	require.Error(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	require.Equal(t, 1, packsIn(t, b), "nothing was deleted")
	bad.Set()
	flush(t, p)
	require.NoError(t, p.Put(t.Context(), all[0].key, all[0].value))
	require.NoError(t, p.fence.certain(t.Context()))
	require.NoError(t, p.stat().Owner.Unknown)
	requireAll(t, p, all[10:])

	// A node that was replaced during the outage finds out when the bucket answers, and its successor has nothing of
	// it but what it may have.
	bad.Set(faulty.Rule{Err: down})
	extra := blocksOf(t, 50, 1000)[40:]
	time.Sleep(30 * time.Millisecond)
	require.NoError(t, p.Put(t.Context(), extra[0].key, extra[0].value))
	o := newSite(b).takeOver().open(t)
	bad.Set()
	require.Eventually(t, func() bool { return errors.Is(p.Put(t.Context(), extra[1].key, extra[1].value), ErrReplaced) }, time.Minute, time.Millisecond)
	require.NoError(t, o.Close())
	require.NoError(t, p.Close())
	s.b = b
	requireAll(t, s.open(t), append(all[10:], extra[0]))
}

// While the owner is unknown, another one may have deleted what the index here says to be there. So a put of it is a
// real one.
func TestBlockThatIsThereIsWrittenAgainDuringAnOutage(t *testing.T) {
	b := mem.New()
	bad := faulty.Wrap(b)
	s := newSite(bad)
	s.o.lease, s.o.pause = 20*time.Millisecond, time.Millisecond
	p := s.open(t)
	all := blocksOf(t, 5, 1000)
	putAll(t, p, all)
	flush(t, p)
	bad.Set(faulty.Rule{Err: &bucket.Error{Kind: bucket.ErrUnreachable}})
	require.Eventually(t, func() bool { return p.fence.c.Age() > s.o.lease }, time.Minute, time.Millisecond)
	o := newSite(b).takeOver().open(t)
	for _, one := range all {
		require.NoError(t, o.Delete(t.Context(), one.key))
	}
	require.NoError(t, o.compactAll(t.Context(), 0, func(Progress) {}))
	require.Zero(t, packsIn(t, b))
	require.NoError(t, p.Put(t.Context(), all[0].key, all[0].value))
	batch, err := p.Batch(t.Context())
	require.NoError(t, err)
	for _, one := range all[1:3] {
		require.NoError(t, batch.Put(t.Context(), one.key, one.value))
	}
	require.NoError(t, batch.Commit(t.Context()))
	require.NoError(t, o.Close())
	require.NoError(t, p.Close())
	s.b = b
	p = s.open(t)
	requireAll(t, p, all[:3])
	flush(t, p)
	require.NoError(t, p.Close())
	requireAll(t, newSite(b).open(t), all[:3])
}

func TestOutageStopsWritesThatMustBeInTheBucket(t *testing.T) {
	bad := faulty.Wrap(mem.New())
	s := newSite(bad)
	s.c.Durability, s.o.lease = DurableInBucket, 20*time.Millisecond
	p := s.open(t)
	one := blocksOf(t, 1, 10)[0]
	time.Sleep(30 * time.Millisecond)
	bad.Set(faulty.Rule{Err: &bucket.Error{Kind: bucket.ErrUnreachable}})
	require.ErrorIs(t, p.Put(t.Context(), one.key, one.value), bucket.ErrUnreachable)
	bad.Set()
	require.NoError(t, p.Put(t.Context(), one.key, one.value))
}

// An object is looked at before the copy in the journal goes.
func TestAnswerThatThePackIsThereIsNotBelieved(t *testing.T) {
	for name, there := range map[string]func([]byte) []byte{
		"nothing": func([]byte) []byte { return nil },
		"a part":  func(b []byte) []byte { return b[:len(b)/2] },
		"others":  func(b []byte) []byte { c := bytes.Clone(b); c[len(c)/2] ^= 1; return c },
		"all":     func(b []byte) []byte { return b },
	} {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			s := newSite(&liar{b, there})
			p := s.open(t)
			all := blocksOf(t, 5, 1000)
			putAll(t, p, all)
			flush(t, p)
			require.NoError(t, p.Close())
			requireAll(t, newSite(b).open(t), all)
		})
	}
}

// liar says of each new pack that it is there.
type liar struct {
	*mem.Bucket
	there func([]byte) []byte
}

func (l *liar) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (bucket.Info, error) {
	if !strings.HasSuffix(key, ".car") {
		return l.Bucket.PutIf(ctx, key, body, cond)
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return bucket.Info{}, err
	}
	if data = l.there(data); data != nil {
		if err := l.Put(ctx, key, bytes.NewReader(data)); err != nil {
			return bucket.Info{}, err
		}
	}
	return bucket.Info{}, &bucket.Error{Op: bucket.OpPut, Key: key, Kind: bucket.ErrPreconditionFailed}
}

func TestChainIsShortened(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	all := blocksOf(t, 2*snapshotAfter, 50)
	p := s.open(t)
	for _, one := range all {
		require.NoError(t, p.Put(t.Context(), one.key, one.value))
		flush(t, p)
		require.NoError(t, p.Delete(t.Context(), one.key))
		require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	}
	require.NoError(t, p.Close())
	p = s.open(t)
	require.Less(t, len(p.fence.found.Records), snapshotAfter+2)
	require.LessOrEqual(t, len(p.fence.allDoomed()), 1)
	require.NoError(t, p.Close())
	for range snapshotAfter {
		require.NoError(t, s.open(t).Close())
	}
	require.Less(t, len(s.open(t).fence.found.Records), snapshotAfter+4)
}

// TestRequestsOfTheFence pins what ownership costs in requests.
func TestRequestsOfTheFence(t *testing.T) {
	log := &recorded.Log{}
	b := mem.New()
	s := newSite(recorded.Wrap(b, log))
	var now atomic.Int64
	s.o.clock = &chain.Clock{Mono: func() time.Duration { return time.Duration(now.Load()) }, Wall: func() time.Time { return time.Unix(1_800_000_000, now.Load()) }}
	pass := func(d time.Duration) { now.Add(int64(d)) }
	all := blocksOf(t, 40, 1000)
	log.Section("first start")
	p := s.open(t)
	log.Section("10 writes in 19 s")
	for _, one := range all[:10] {
		require.NoError(t, p.Put(t.Context(), one.key, one.value))
		pass(1900 * time.Millisecond)
	}
	log.Section("upload")
	flush(t, p)
	log.Section("58 minutes of nothing, with a readiness check each second")
	for range 58 * 60 {
		require.NoError(t, p.Check(t.Context()))
		pass(time.Second)
	}
	log.Section("and after the hour")
	pass(3 * time.Minute)
	require.NoError(t, p.Check(t.Context()))
	require.Eventually(t, func() bool { return p.fence.c.Age() < time.Minute }, time.Minute, time.Millisecond)
	pass(time.Minute)
	log.Section("a write after that")
	require.NoError(t, p.Put(t.Context(), all[10].key, all[10].value))
	log.Section("a gc and compaction")
	for _, one := range all[:10] {
		require.NoError(t, p.Delete(t.Context(), one.key))
	}
	require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	log.Section("end in order")
	flush(t, p)
	require.NoError(t, p.Close())
	log.Section("start after an end in order")
	p = s.open(t)
	log.Section("start after a kill")
	s.dies(t, p)
	p = s.open(t)
	require.NoError(t, p.Delete(t.Context(), all[10].key))
	putAll(t, p, all[11:13])
	flush(t, p)
	require.NoError(t, p.Close())
	log.Section("a fresh node takes over, and adds")
	o := newSite(recorded.Wrap(b, log)).open(t)
	putAll(t, o, all[20:])
	flush(t, o)
	require.NoError(t, o.Close())
	log.Section("the first one comes back: resync")
	p = s.open(t)
	log.Section("end")
	require.NoError(t, p.Close())
	golden(t, "fence.txt", stable(log.String()))
}
