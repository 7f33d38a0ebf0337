package migrate

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/metered"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// counted is how many requests a server has got since it was asked last, by operation.
func counted(p *s3test.Proxy) map[string]int64 {
	all := map[string]int64{}
	for _, line := range p.Take() {
		method, path, _ := strings.Cut(line, " ")
		switch op := strings.ToLower(method); {
		case op == "get" && strings.Contains(path, "encoding-type=url"):
			all["list"]++
		default:
			all[op]++
		}
	}
	return all
}

// TestTheEstimateIsWhatHappens: in each direction, requests as the server counts them, dollars, and the time that a throttle takes, beside
// what --dry-run said.
func TestTheEstimateIsWhatHappens(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	proxy := s3test.NewProxy(t, s.URL)
	b := s.NewBucket(t)
	n := newRepo(t)
	n.Run("add", "-Q", random(t, 1, 48<<20))
	n.Run("add", "-Q", "--chunker=size-8192", random(t, 2, 8<<20))
	for _, c := range []struct {
		name string
		args []string
	}{
		{"flatfs to packs", toS3At(proxy.URL, b, "node-1", "--bandwidth", "8MB")},
		{"packs to other packs", toS3At(proxy.URL, b, "node-2")},
		{"packs to efs", command("--to", "efs", "--path", "other")},
		{"efs to objects", toS3At(proxy.URL, b, "node-3", "--layout", "objects")},
		{"objects to packs", toS3At(proxy.URL, b, "node-4")},
	} {
		all := events(t, n.Run(append(c.args, "--dry-run", "--json")...))
		estimate := all[len(all)-1].Estimate
		require.NotNil(t, estimate)
		asked := counted(proxy) // by opening the source
		r := n.result(c.args...).Result
		got := counted(proxy)
		t.Logf("%s: estimated %v, $%.6f, %.1f s; opening the source %v; counted %v, $%.6f, %.1f s", c.name, estimate.Requests, estimate.Dollars, 3600*estimate.Hours, asked, got, r.Dollars, r.Seconds)
		require.Equal(t, r.Blocks, estimate.Blocks, c.name)
		var usd float64
		for _, op := range bucket.Ops {
			op := string(op)
			usd += float64(got[op]) * metered.Standard[bucket.Op(op)]
			assert.InDelta(t, estimate.Requests[op], got[op], 6+0.1*float64(got[op]), "%s: %s", c.name, op)
		}
		assert.InDelta(t, estimate.Dollars, usd, 0.0001+0.1*usd, c.name)
		if c.name == "flatfs to packs" {
			assert.GreaterOrEqual(t, r.Seconds, 0.7*3600*estimate.Hours, c.name)
		}
	}
}
