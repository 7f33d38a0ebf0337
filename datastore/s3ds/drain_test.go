package s3ds

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

func TestDrain(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	s.c.SealAge = time.Hour
	p := s.open(t)
	all := blocksOf(t, 50, 1000)
	putAll(t, p, all)
	require.EqualValues(t, 50, p.stat().Index.JournalBlocks)
	require.NoError(t, p.Drain(t.Context()))
	st := p.stat()
	require.Zero(t, st.Index.JournalBlocks)
	require.EqualValues(t, 50, st.Index.LiveBlocks)
	require.NoError(t, p.Drain(t.Context()), "with nothing to do")
	require.EqualValues(t, 1, p.stat().Uploads)
}

func TestDrainOfABucketThatTakesNothing(t *testing.T) {
	broken := errors.New("no more today")
	b := faulty.Wrap(mem.New())
	s := newSite(b)
	s.o.pause = time.Millisecond
	p := s.open(t)
	putAll(t, p, blocksOf(t, 3, 100))
	b.Set(faulty.Rule{Op: bucket.OpPut, Key: ".car", Err: broken})
	p.writeWait = time.Millisecond
	require.ErrorIs(t, p.Drain(t.Context()), broken)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Drain(ctx), context.Canceled)
	b.Set()
	require.NoError(t, p.Drain(t.Context()))
}

// Stored yields each value once, those of one pack one after the other and as they were put.
func TestStored(t *testing.T) {
	b := mem.New()
	p := newSite(b).open(t)
	var want []string
	for some := range slices.Chunk(blocksOf(t, 120, 500), 40) {
		putAll(t, p, some)
		require.NoError(t, p.Drain(t.Context()))
		for i, one := range some {
			if i == 7 {
				require.NoError(t, p.Delete(t.Context(), one.key))
				continue
			}
			want = append(want, one.key.String())
		}
	}
	loose := blocksOf(t, 1, 9<<20) // into no pack
	putAll(t, p, loose)
	waiting := blocksOf(t, 1, 100)
	putAll(t, p, waiting)
	var got []string
	for e, err := range p.Stored(t.Context()) {
		require.NoError(t, err)
		got = append(got, e.Key)
	}
	require.Equal(t, want, got[:len(want)])
	require.ElementsMatch(t, []string{loose[0].key.String(), waiting[0].key.String()}, got[len(want):])
}

func TestDestroy(t *testing.T) {
	server := s3test.Start(t)
	for _, layout := range []string{LayoutPacks, LayoutObjects} {
		t.Run(layout, func(t *testing.T) {
			c := config(server.URL, server.NewBucket(t))
			c.RootDirectory, c.Layout = "node-1", layout
			repo := t.TempDir()
			d, err := OpenIn(t.Context(), c, repo, nil)
			require.NoError(t, err)
			putAll(t, d, blocksOf(t, 30, 1000))
			if p, ok := d.(*Packed); ok {
				require.NoError(t, p.Drain(t.Context()))
				require.ErrorContains(t, Destroy(t.Context(), c, repo, nil), "another process uses this repo", "while it is open")
				require.ErrorIs(t, Destroy(t.Context(), c, t.TempDir(), nil), ErrOwned, "by another node")
			}
			raw := d.(interface{ bucketForTest() bucket.Bucket }).bucketForTest()
			putObject(t, raw, "node-1/notes.txt", []byte("keep me"))
			putObject(t, raw, "node-1/below/CIQFTFEEHEDF6KLBT32BFAGLXEZL4UWFNWM4LFTLMXQBCERZ6CMLX3Y", []byte("of another node"))
			putObject(t, raw, "node-10/CIQFTFEEHEDF6KLBT32BFAGLXEZL4UWFNWM4LFTLMXQBCERZ6CMLX3Y", []byte("of another node"))
			require.NoError(t, d.Close())

			var told int64
			require.NoError(t, Destroy(t.Context(), c, repo, func(n int64) { told = n }))
			require.Positive(t, told)
			left, err := filepath.Glob(filepath.Join(server.Dir, c.Bucket, "*", "*"))
			require.NoError(t, err)
			below, err := filepath.Glob(filepath.Join(server.Dir, c.Bucket, "*", "*", "*"))
			require.NoError(t, err)
			files := slices.DeleteFunc(append(left, below...), func(path string) bool {
				fi, err := os.Stat(path)
				return err != nil || fi.IsDir()
			})
			require.Len(t, files, 3)
			require.NoDirExists(t, filepath.Join(repo, "s3ds", "journal"))
			require.NoError(t, Destroy(t.Context(), c, repo, nil), "once more")
		})
	}
}

func (d *Datastore) bucketForTest() bucket.Bucket { return d.b }
func (p *Packed) bucketForTest() bucket.Bucket    { return p.b }
