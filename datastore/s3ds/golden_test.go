package s3ds

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/recorded"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// script is every operation once, each in a section of its own.
func script(t *testing.T, d *Datastore, section func(string)) {
	key := ds.NewKey
	must := func(err error) {
		t.Helper()
		require.NoError(t, err)
	}
	drain := func(q query.Query) {
		r, err := d.Query(t.Context(), q)
		must(err)
		_, err = r.Rest()
		must(err)
	}
	section("put")
	must(d.Put(t.Context(), key("a"), []byte("value")))
	section("get")
	_, err := d.Get(t.Context(), key("a"))
	must(err)
	section("has, hit and miss")
	_, err = d.Has(t.Context(), key("a"))
	must(err)
	_, err = d.Has(t.Context(), key("absent"))
	must(err)
	section("get, miss")
	_, err = d.Get(t.Context(), key("absent"))
	require.Equal(t, ds.ErrNotFound, err)
	section("sync and check")
	must(d.Sync(t.Context(), key("/")))
	must(d.Check(t.Context()))
	section("batch of 3 puts, a put that is overwritten, and 2 deletes")
	b := newBatch(t, d)
	for _, k := range []string{"b", "c", "d", "b"} {
		must(b.Put(t.Context(), key(k), []byte("value")))
	}
	must(b.Delete(t.Context(), key("e")))
	must(b.Delete(t.Context(), key("f")))
	must(b.Commit(t.Context()))
	section("empty batch")
	must(newBatch(t, d).Commit(t.Context()))
	section("query of keys")
	drain(query.Query{KeysOnly: true})
	section("query of values")
	drain(query.Query{})
	section("query of one value")
	drain(query.Query{Offset: 1, Limit: 1})
	section("disk usage, three times")
	for range 3 {
		_, err = d.DiskUsage(t.Context())
		must(err)
	}
	section("delete")
	must(d.Delete(t.Context(), key("a")))
	section("batch of 2,500 deletes")
	b = newBatch(t, d)
	for i := range 2500 {
		must(b.Delete(t.Context(), key(fmt.Sprintf("many-%04d", i))))
	}
	must(b.Commit(t.Context()))
}

// TestCallsOfTheBucket pins what the datastore asks of the bucket.
func TestCallsOfTheBucket(t *testing.T) {
	log := &recorded.Log{}
	d := New(recorded.Wrap(mem.New(), log), Config{RootDirectory: "root"})
	script(t, d, log.Section)
	log.Section("probe")
	require.NoError(t, probe(t.Context(), d.b, "root"))
	golden(t, "calls.txt", hideProbe(log.String()))
}

// TestRequestsOnTheWire pins what a server is asked, and with that the bill.
func TestRequestsOnTheWire(t *testing.T) {
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.URL)
	log := &recorded.Log{}
	flush := func() {
		for _, line := range proxy.Take() {
			log.Add("%s", line)
		}
	}
	c := config(proxy.URL, server.NewBucket(t))
	c.RootDirectory = "root"
	log.Section("open")
	d := open(t, c)
	script(t, d, func(title string) { flush(); log.Section(title) })
	flush()
	log.Section("probe")
	require.NoError(t, Probe(t.Context(), c))
	flush()
	golden(t, "requests.txt", hideProbe(log.String()))

	var requests uint64
	for _, op := range bucket.Ops {
		requests += d.Stats().Ops[op].Requests
	}
	require.EqualValues(t, requestLines(log.String(), "probe"), requests, "the meter counts what the server saw")
}

// requestLines counts the requests in a log before a section.
func requestLines(log, before string) int {
	log, _, _ = strings.Cut(log, "# "+before)
	n := 0
	for line := range strings.Lines(log) {
		if strings.Contains(line, " /") && !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

// hideProbe replaces the random part of the name of a probe.
func hideProbe(log string) string {
	parts := strings.Split(log, probeName)
	for i := range parts[1:] {
		parts[i+1] = "X" + strings.TrimLeft(parts[i+1], "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
	}
	return strings.Join(parts, probeName)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "run with -update if this is meant to change")
}
