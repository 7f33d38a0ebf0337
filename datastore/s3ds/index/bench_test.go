package index

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fastKey is a sha2-256 multihash of a number, or of another one that no entry has.
func fastKey(i uint64) []byte {
	h := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
	return append([]byte{0x12, 32}, h[:]...)
}

func diskBytes(b *testing.B, dir string) (n int64) {
	require.NoError(b, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			n += st.Size()
		}
		return err
	}))
	return n
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkTenMillion builds an index of 10 million blocks of 256 KiB in 78,125 packs, closes and opens it, and measures what
// the package documentation quotes. S3DS_INDEX_ENTRIES sets another number. Run it once:
//
//	GOMAXPROCS=1 go test -run - -bench TenMillion -benchtime 1x -timeout 30m ./datastore/s3ds/index
func BenchmarkTenMillion(b *testing.B) {
	n := uint64(10_000_000)
	if s := os.Getenv("S3DS_INDEX_ENTRIES"); s != "" {
		var err error
		n, err = strconv.ParseUint(s, 10, 63)
		require.NoError(b, err)
	}
	const perPack, block = 128, 262_144
	dir := b.TempDir()
	for b.Loop() {
		before := heap()
		x, err := Open(dir, Options{Identity: testIdentity})
		require.NoError(b, err)
		begin, peak := time.Now(), uint64(0)
		entries := make([]Entry, perPack)
		n -= n % perPack
		for i := uint64(0); i < n; i += perPack {
			for j := range entries {
				entries[j] = Entry{fastKey(i + uint64(j)), Location{Offset: int64(59 + j*(block+41)), Length: block}}
			}
			_, err := x.AddPack(bg, PackInfo{Name: fmt.Sprintf("packs/writer-1/%020d-%d", i, 33_559_855), Size: 33_565_000, IndexOffset: 33_559_855}, entries, Take{Absent: true, Journal: true})
			require.NoError(b, err)
			if i%(perPack*4096) == 0 {
				peak = max(peak, heap())
			}
		}
		require.NoError(b, x.SetComplete(bg, true))
		b.ReportMetric(float64(n)/time.Since(begin).Seconds(), "loaded/s")
		b.ReportMetric(float64(peak-before)/(1<<20), "MiB-heap-loading")
		require.NoError(b, x.Close())
		b.ReportMetric(float64(diskBytes(b, dir))/float64(n), "disk-bytes/entry")

		begin = time.Now()
		x, err = Open(dir, Options{Identity: testIdentity})
		require.NoError(b, err)
		b.ReportMetric(time.Since(begin).Seconds(), "s-open")
		require.EqualValues(b, n, x.Stats().Blocks)
		for _, c := range []struct {
			unit  string
			first uint64
			want  bool
		}{{"µs-hit-median", 0, true}, {"µs-miss-median", 1 << 60, false}} {
			times := make([]time.Duration, 0, 200_000)
			for i := range uint64(cap(times)) {
				k := fastKey(c.first + i*2_654_435_761%n)
				begin := time.Now()
				ok, err := x.Has(k)
				times = append(times, time.Since(begin))
				if err != nil || ok != c.want {
					b.Fatal(ok, err)
				}
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1e3, c.unit)
			b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds())/1e3, c.unit[:len(c.unit)-6]+"p99")
		}
		b.ReportMetric(float64(heap()-before)/(1<<20), "MiB-heap-serving")
		require.NoError(b, x.Close())
	}
}
