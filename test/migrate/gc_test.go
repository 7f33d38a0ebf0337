package migrate

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

// TestGarbageCollectedWhileBlocksMove: what nothing needs is gone from both stores, and does not come back with what is copied after;
// what is pinned, also while it goes on, stays. A daemon that is killed in the middle of it loses nothing either.
func TestGarbageCollectedWhileBlocksMove(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	for name, c := range map[string]struct {
		init, to func(bucket string) []string
	}{
		"flatfs to s3": {
			func(string) []string { return []string{"init", "--profile", "test"} },
			func(bucket string) []string { return toS3(s, bucket, "node-1") },
		},
		"s3 to efs": {
			func(bucket string) []string {
				return []string{"init", "--profile", "test", "--blockstore", "s3", "--bucket", bucket, "--endpoint", s.URL, "--region", s3test.Region}
			},
			func(string) []string { return command("--to", "efs") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bucket := s.NewBucket(t)
			n := newNode(t)
			n.Run(c.init(bucket)...)
			n.Start()
			kept, loose := filled(t, n, 120)
			args := append(c.to(bucket), "--online")
			copying := func(bandwidth string, least int64) (wait func() error) {
				t.Helper()
				cmd := n.Command(append(args, "--bandwidth", bandwidth)...)
				var errOut bytes.Buffer
				cmd.Stderr = &errOut
				require.NoError(t, cmd.Start())
				require.Eventually(t, func() bool {
					m := n.stat().Migration
					return m != nil && m.AtWork && m.Stage == "copying" && m.Blocks >= least
				}, testnode.Patience, 20*time.Millisecond, "%s", &errOut)
				return cmd.Wait
			}
			gone := func() {
				t.Helper()
				left := strings.Join(n.refs(), "\n")
				for _, ref := range loose {
					// refs local shows another CID of the same block.
					require.False(t, n.has(ref), "%s was collected, and is there", ref)
					require.NotContains(t, left, ref)
				}
			}

			// Some blocks are in both stores, some in the old one, some in the new one only.
			u := n.use(50, kept)
			wait := copying("100kB", 100)
			for range 3 {
				n.Run("repo", "gc", "--min-age", "0s")
				gone()
			}
			u.end()
			require.Empty(t, u.failures)
			u.readable(t)

			// More of it, half of which is copied already, when the daemon is killed in the middle of collecting.
			_, more := filled(t, n, 0)
			loose = more
			gc := n.Command("repo", "gc", "--min-age", "0s")
			require.NoError(t, gc.Start())
			require.Error(t, n.End(syscall.SIGKILL))
			require.Error(t, wait())
			_ = gc.Wait() // it may have ended before
			n.Start()
			u.readable(t)
			wait = copying("600kB", 1)
			n.Run("repo", "gc", "--min-age", "0s")
			gone()
			require.NoError(t, wait())
			gone()
			u.readable(t)
			n.Run("repo", "gc", "--min-age", "0s")
			u.readable(t)
			n.Stop()
			n.Start()
			gone()
			u.readable(t)
			require.Contains(t, n.Run("repo", "verify"), "verify complete")
			n.Stop()
		})
	}
}
