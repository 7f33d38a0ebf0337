package s3ds

import (
	"flag"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"testing"

	ds "github.com/ipfs/go-datastore"
	dstest "github.com/ipfs/go-datastore/test"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

func TestConformanceInMemory(t *testing.T) {
	for name, root := range map[string]string{"without root": "", "with root": "some/root"} {
		t.Run(name, func(t *testing.T) {
			dstest.SubtestAll(t, New(mem.New(), Config{RootDirectory: root}))
		})
	}
}

// full adds to the conformance suite what takes a real server many minutes.
var full = flag.Bool("full", false, "run SubtestCombinations against versitygw, too: 1,151 queries, some 180,000 requests")

// TestConformanceOnServer runs the suite of go-datastore against versitygw, but for two of its tests. SubtestBasicSync needs
// /prefix and /prefix/sub side by side; versitygw keeps objects as files, and a file cannot be a folder: it runs against a server
// that can, in TestConformanceNestedKeys. SubtestCombinations always runs in memory, and here with -full.
func TestConformanceOnServer(t *testing.T) {
	count := dstest.ElemCount
	t.Cleanup(func() { dstest.ElemCount = count }) // when the parallel subtests are done
	dstest.ElemCount = 20                          // the suite's own minimum
	server := s3test.Start(t)
	for _, f := range dstest.BasicSubtests {
		name := funcName(f)
		if name == "SubtestBasicSync" || name == "SubtestCombinations" && !*full {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config(server.URL, server.NewBucket(t))
			c.RootDirectory = "some/root"
			f(t, open(t, c))
		})
	}
	for _, f := range dstest.BatchSubtests {
		t.Run(funcName(f), func(t *testing.T) {
			t.Parallel()
			f(t, open(t, config(server.URL, server.NewBucket(t))))
		})
	}
}

func TestConformanceNestedKeys(t *testing.T) {
	backend := s3mem.New()
	require.NoError(t, backend.CreateBucket("nested"))
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	c := config(server.URL, "nested")
	c.RootDirectory = "root"
	dstest.SubtestBasicSync(t, open(t, c))
}

func funcName(f any) string {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	return name[strings.LastIndex(name, ".")+1:]
}

var _ ds.Datastore = (*Datastore)(nil)
