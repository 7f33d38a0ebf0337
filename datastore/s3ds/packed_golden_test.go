package s3ds

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/recorded"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// dag returns n blocks of one size as an add makes them, of pseudo-random bytes.
func dag(t testing.TB, seed uint64, n, size int) []put {
	t.Helper()
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	all := make([]put, n)
	for i := range all {
		data := make([]byte, size)
		_, _ = source.Read(data)
		all[i].key, all[i].value = block(t, data, mh.SHA2_256)
	}
	return all
}

// addLikeKubo commits batches of 8 MiB or 128 blocks.
func addLikeKubo(t testing.TB, d ds.Batching, puts []put) {
	t.Helper()
	for part := range slices.Chunk(puts, 32) {
		putAll(t, d, part)
	}
	require.NoError(t, d.Sync(t.Context(), ds.NewKey("/")))
}

// kinds counts the lines of a log by what was done to what sort of object, so that names of packs and timing do not matter.
func kinds(log string) string {
	var out strings.Builder
	counts := map[string]int{}
	most := 0 // if a section says so, its requests are not listed but bounded: how many they are depends on timing
	flush := func() {
		total := 0
		for _, n := range counts {
			total += n
		}
		if most > 0 && total <= most {
			clear(counts)
			return
		}
		keys := make([]string, 0, len(counts))
		for k := range counts {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			fmt.Fprintf(&out, "%4d %s\n", counts[k], k)
		}
		if len(keys) == 0 {
			out.WriteString("   0 requests\n")
		}
		clear(counts)
	}
	begun := false
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			if begun {
				flush()
				out.WriteString("\n")
			}
			begun = true
			out.WriteString(line + "\n")
			most = 0
			if _, bound, ok := strings.Cut(line, "at most "); ok {
				if _, err := fmt.Sscanf(bound, "%d", &most); err != nil {
					panic(err)
				}
			}
		case line == "", line == "(nothing)":
		default:
			op, rest, _ := strings.Cut(line, " ")
			what := "object"
			switch {
			case strings.Contains(rest, ownerName):
				what = "owner"
			case strings.Contains(rest, chainName):
				what = map[string]string{"list": "page of the chain"}[op]
				if what == "" {
					what = "record"
				}
			case strings.Contains(rest, ".car"), strings.HasSuffix(rest, "keys: ok"):
				what = "pack"
			case op == "list":
				what = "page of a list"
			}
			counts[op+" "+what+rest[strings.LastIndex(rest, ":"):]]++
		}
	}
	flush()
	return out.String()
}

// TestRequestsOfPacks pins what the work of a node costs in requests. The sizes are those of docs/s3ds.md.
func TestRequestsOfPacks(t *testing.T) {
	gate.Plain(t, "adds and reads 256 MiB")
	log := &recorded.Log{}
	s := newSite(recorded.Wrap(mem.New(), log))
	s.c.PackSize, s.c.Memory = 0, 0 // the defaults
	s.c.CacheSize, s.o.lease = NoCache, time.Hour
	log.Section("first start")
	p := s.open(t)
	reopen := func() {
		t.Helper()
		require.NoError(t, p.Close())
		p = s.open(t)
	}
	file := dag(t, 1, 1024, 256<<10)
	log.Section("add 256 MiB in blocks of 256 KiB: at most 12")
	addLikeKubo(t, p, file)
	flush(t, p)
	log.Section("restart")
	reopen()
	log.Section("the same again")
	addLikeKubo(t, p, file)
	log.Section("read 256 MiB, cold")
	reopen()
	log.Section("read 256 MiB, cold: the reads, at most 24")
	requireAll(t, p, file)
	log.Section("restart, to be cold again")
	reopen()
	log.Section("1 MiB in the middle, cold: at most 2")
	requireAll(t, p, file[500:505])
	log.Section("add 2,000 files of 1 to 50 KiB, 51 MB: at most 6")
	var tree []put
	for i := range 50 {
		tree = append(tree, dag(t, uint64(100+i), 40, (i+1)<<10)...)
	}
	addLikeKubo(t, p, tree)
	flush(t, p)
	log.Section("70,000 wants for absent blocks")
	for i := range 70_000 {
		key, _ := block(t, fmt.Appendf(nil, "absent %d", i), mh.SHA2_256)
		_, err := p.GetSize(t.Context(), key)
		require.Equal(t, ds.ErrNotFound, err)
	}
	log.Section("list all keys, disk usage, check, stat")
	require.Len(t, queryKeys(t, p, query.Query{}), 3024)
	_, err := p.DiskUsage(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.Check(t.Context()))
	_, err = p.Stat(t.Context())
	require.NoError(t, err)
	log.Section("delete 933 of 3,024 blocks: at most 10")
	b, err := p.Batch(t.Context())
	require.NoError(t, err)
	for _, one := range file[:933] {
		require.NoError(t, b.Delete(t.Context(), one.key))
	}
	require.NoError(t, b.Commit(t.Context()))
	require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	log.Section("after that: nothing to do")
	require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	requireAll(t, p, nil)
	log.Section("close")
	require.NoError(t, p.Close())
	golden(t, "packs.txt", kinds(log.String()))
	for section := range strings.SplitSeq(log.String(), "# ") {
		if strings.HasPrefix(section, "add ") {
			require.NotRegexp(t, `(?m)^(get|head|list) `, section, "an add reads nothing back")
		}
	}
}

// TestReindexRequests: one GET per pack and one LIST per 1,000 objects.
func TestReindexRequests(t *testing.T) {
	log := &recorded.Log{}
	b := mem.New()
	s := newSite(recorded.Wrap(b, log))
	s.c.PackSize = 4096
	p := s.open(t)
	all := dag(t, 7, 200, 4000)
	addLikeKubo(t, p, all)
	flush(t, p)
	packs := int(p.stat().Index.Packs)
	require.GreaterOrEqual(t, packs, 200)
	require.NoError(t, p.Close())
	fresh := newSite(recorded.Wrap(b, log))
	log.Section("fresh node")
	var last Progress
	o := fresh.o
	o.fs = fresh.fs
	f, err := openPacked(t.Context(), New(fresh.b, fresh.c), fresh.c, "/repo", o, func(p Progress) { last = p })
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	require.EqualValues(t, packs, last.Packs)
	_, after, _ := strings.Cut(log.String(), "# fresh node\n")
	require.Equal(t, packs, strings.Count(after, ".car"))
	require.Equal(t, 2, strings.Count(after, "list "), "the chain and the packs")
	requireAll(t, f, all)
}

// A reindex that is broken off is gone on with: the packs that were read are not read again. One of a complete index begins anew.
func TestReindexGoesOn(t *testing.T) {
	log := &recorded.Log{}
	s := newSite(recorded.Wrap(mem.New(), log))
	s.c.PackSize = 4096
	p := s.open(t)
	all := dag(t, 7, 300, 4000)
	addLikeKubo(t, p, all)
	flush(t, p)
	packs := int(p.stat().Index.Packs)
	require.NoError(t, p.Close())
	o := s.o
	o.fs, o.reindex = s.fs, true
	reindex := func(section string, ctx context.Context, progress func(Progress)) (reads int, err error) {
		log.Section(section)
		p, err := openPacked(ctx, New(s.b, s.c), s.c, "/repo", o, progress)
		if err == nil {
			requireAll(t, p, all[:1])
			err = p.Close()
		}
		_, after, _ := strings.Cut(log.String(), "# "+section+"\n")
		return strings.Count(after, ".car"), err
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := reindex("broken off", ctx, func(p Progress) {
		if p.Packs >= int64(packs)/2 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	reads, err := reindex("gone on with", t.Context(), nil)
	require.NoError(t, err)
	require.LessOrEqual(t, reads, packs/2+2, "of %d packs", packs)
	reads, err = reindex("begun anew", t.Context(), nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, reads, packs)
}

// TestReindexOfThousandPacks: no more than 1,100 requests, 64 of them at the same time.
func TestReindexOfThousandPacks(t *testing.T) {
	log := &recorded.Log{}
	c := &crowd{Bucket: mem.New(), n: reindexWidth, complete: make(chan struct{})}
	s := newSite(c)
	s.c.PackSize, s.c.JournalSize = 1024, 1<<20
	p := s.open(t)
	all := dag(t, 7, 1000, 1000)
	putAll(t, p, all) // a pack each, and some of those that were late for their segment
	flush(t, p)
	packs := int(p.stat().Index.Packs)
	require.GreaterOrEqual(t, packs, 1000)
	require.NoError(t, p.Close())
	c.holds = true
	f := newSite(recorded.Wrap(c, log)).open(t)
	requests := strings.Count(log.String(), "\n")
	require.GreaterOrEqual(t, requests, packs)
	require.LessOrEqual(t, requests, packs*11/10)
	require.Equal(t, reindexWidth, c.most)
	require.EqualValues(t, 1000, f.stat().Index.LiveBlocks)
	c.holds = false
	requireAll(t, f, all[:50])
}
