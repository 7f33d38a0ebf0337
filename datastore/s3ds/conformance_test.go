package s3ds

import (
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
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

func TestConformanceInMemory(t *testing.T) {
	for name, root := range map[string]string{"without root": "", "with root": "some/root"} {
		t.Run(name, func(t *testing.T) {
			if root == "" {
				gate.Long(t, "with a root there is more to get wrong")
			}
			dstest.SubtestAll(t, New(mem.New(), Config{RootDirectory: root}))
		})
	}
}

// onServer reports whether a test of the suite runs against versitygw. SubtestBasicSync does not: it needs /prefix and /prefix/sub
// side by side, and versitygw keeps objects as files, of which none can be a folder; it runs against a server that can, in
// TestConformanceNestedKeys. Nor does SubtestCombinations: its 1,151 queries would be some 180,000 requests. It runs in memory
// (TestConformanceInMemory, TestPackedConformance, TestConformanceOfObjectsBesidePacks), and only without the race detector, with
// which the suite does not have it: `make test-conformance`.
func onServer(name string) bool { return name != "SubtestBasicSync" && name != "SubtestCombinations" }

// TestConformanceOnServer runs the suite of go-datastore against versitygw.
func TestConformanceOnServer(t *testing.T) {
	gate.Plain(t, "thousands of requests")
	server := s3test.Start(t)
	for _, f := range dstest.BasicSubtests {
		name := funcName(f)
		if !onServer(name) {
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
