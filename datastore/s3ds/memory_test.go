package s3ds

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/delayed"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// sink is a bucket that checks packs and keeps only what is in them, so that the memory of a test is that of the store.
type sink struct {
	*mem.Bucket
	mu     sync.Mutex
	blocks map[string]struct{}
}

func (s *sink) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (bucket.Info, error) {
	if !strings.HasSuffix(key, pack.Ext) {
		return s.Bucket.PutIf(ctx, key, body, cond)
	}
	var found []string
	for one, err := range pack.Sections(body) {
		if err == nil {
			err = pack.Verify(one.Multihash, one.Data)
		}
		if err != nil {
			return bucket.Info{}, err
		}
		found = append(found, string(one.Multihash))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range found {
		s.blocks[h] = struct{}{}
	}
	return bucket.Info{}, nil
}

// heapPeak samples what the collector finds alive until it is asked for the most of it, in bytes.
func heapPeak(t *testing.T) func() uint64 {
	t.Helper()
	before := debug.SetGCPercent(10)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	read := func() uint64 {
		s := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
		runtimemetrics.Read(s)
		return s[0].Value.Uint64()
	}
	debug.FreeOSMemory()
	base, most := read(), uint64(0)
	done, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			most = max(most, read())
			select {
			case <-time.After(5 * time.Millisecond):
			case <-done:
				return
			}
		}
	}()
	return func() uint64 {
		close(done)
		<-over
		return most - min(base, most)
	}
}

const (
	adders    = 64
	addBlock  = 256 << 10
	addBlocks = 2 // of a batch: what kubo sends is 8 MiB divided by the CPUs, and by what else is there
)

// addAll has adders add random blocks, batch after batch, until they have done so many or one fails. It returns the multihashes of what was
// acknowledged, and why adders ended.
func addAll(t *testing.T, p *Packed, seed byte, batches int) (stored []mh.Multihash, failed []error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for n := range adders {
		wg.Go(func() {
			source := rand.NewChaCha8([32]byte{seed, byte(n)})
			for range batches {
				b, err := p.Batch(t.Context())
				var hashes []mh.Multihash
				for range addBlocks {
					if err != nil {
						break
					}
					data := make([]byte, addBlock)
					_, _ = source.Read(data)
					key, _ := block(t, data, mh.SHA2_256)
					_, h := nameOf(key)
					hashes = append(hashes, h)
					err = b.Put(t.Context(), key, data)
				}
				if err == nil {
					err = b.Commit(t.Context())
				}
				mu.Lock()
				if err != nil {
					failed = append(failed, err)
					mu.Unlock()
					return
				}
				stored = append(stored, hashes...)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return stored, failed
}

// TestMemoryOf64AddsAndABucketThatTakes2s is P6: writers wait for the bucket, and memory stays in its bound; and when the bucket is down they
// fail, clearly, and what was acknowledged goes out when it is back.
func TestMemoryOf64AddsAndABucketThatTakes2s(t *testing.T) {
	gate.NotQuick(t, "takes the bucket's time: 15 s")
	gate.Plain(t, "the race detector multiplies memory")
	// With durability "bucket" a batch takes the time of a request; the journal takes what fits into it at once.
	for durability, batches := range map[string]int{DurableInJournal: 8, DurableInBucket: 2} {
		t.Run(durability, func(t *testing.T) {
			into := &sink{Bucket: mem.New(), blocks: map[string]struct{}{}}
			slow := delayed.Model{FirstByte: map[bucket.Op]time.Duration{bucket.OpPut: 2 * time.Second}, BytesPerSecond: 1e12, Scale: 1}
			bad := faulty.Wrap(delayed.Wrap(into, slow))
			s := newSite(bad)
			s.fs, s.c = vfs.Default, Config{RootDirectory: "root", Layout: LayoutPacks, Durability: durability, JournalSize: 128 << 20, Uploads: 8}
			dir := t.TempDir()
			s.c.JournalPath, s.c.IndexPath, s.c.CachePath = dir+"/journal", dir+"/index", dir+"/cache"
			s.c.Memory = s.c.withPackDefaults(dir).minMemory()
			s.o.writeWait, s.o.pause = time.Minute, 10*time.Millisecond
			bound := uint64(s.c.Memory + 64<<20 + adders*addBlocks*addBlock) // and the index, and what the adders hold themselves
			peak := heapPeak(t)
			p := s.open(t)
			stored, failed := addAll(t, p, 1, batches)
			require.Empty(t, failed)
			require.Len(t, stored, adders*batches*addBlocks)
			if durability == DurableInJournal {
				require.Greater(t, uint64(len(stored)*addBlock), bound, "what was added fits into no memory")
			}

			bad.Set(faulty.Rule{Op: bucket.OpPut, Key: pack.Ext, Err: errInjected})
			p.writeWait = 3 * time.Second
			more, failed := addAll(t, p, 2, 1000)       // as long as it goes well
			most := peak() + uint64(s.c.readMemory()/2) // what reads keep is not in the heap (package span): all of it
			t.Logf("%d MiB added, %d MiB more until the bucket that was down made all wait and fail; at most %d MiB, %d allowed",
				len(stored)*addBlock>>20, len(more)*addBlock>>20, most>>20, bound>>20)
			require.Less(t, most, bound)
			require.Equal(t, adders, len(failed))
			said := 0
			for _, err := range failed {
				require.ErrorIs(t, err, errWaited)
				if errors.Is(err, errInjected) {
					said++
				}
			}
			require.Positive(t, said, "they say why, once an upload has failed")
			require.LessOrEqual(t, p.j.Stats().Bytes, s.c.JournalSize)
			for _, h := range more {
				l, err := p.x.Get(name(h))
				require.NoError(t, err)
				_, err = p.fetch(t.Context(), name(h), l)
				require.NoError(t, err)
			}
			bad.Set()
			flush(t, p)
			for _, h := range append(stored, more...) {
				require.Contains(t, into.blocks, string(h))
			}
		})
	}
}
