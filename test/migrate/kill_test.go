package migrate

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// TestKilledAgainAndAgain: a repo moves from flatfs to S3, from there to EFS, to
// another prefix and layout, and into CAR files, and is killed on its way, in each direction again and again. After each kill the repo
// opens and has its blocks, and what was acknowledged is not copied again.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	kills := gate.Rounds(2, 3, 20)
	blocks := 1_000 * kills
	choice := gate.Random(t)
	s := s3test.Start(t)
	bucket := s.NewBucket(t)
	n := newNode(t)
	n.Run("init", "--profile", "test")
	file := random(t, 1, blocks<<10)
	root := n.Run("add", "-Q", "--chunker=size-1024", file)
	other := random(t, 2, 100<<10)
	n.Run("add", "-Q", "--pin=false", "--chunker=size-1024", other) // nothing leads to it
	refs := n.refs()
	require.GreaterOrEqual(t, len(refs), blocks)
	content := map[string]string{root: file}
	// A run is killed within 0.9 s, so that all of them together copy less than there is, however fast the machine is.
	const slow = "1MB"
	cars := filepath.Join(t.TempDir(), "backup")

	for _, c := range []struct {
		name string
		args []string
	}{
		{"to s3", toS3(s, bucket, "node-1")},
		{"to efs", command("--to", "efs", "--path", filepath.Join(t.TempDir(), "efs"))},
		{"to objects", toS3(s, bucket, "node-2", "--layout", "objects")},
		{"to flatfs", command("--to", "flatfs", "--path", "again")},
		{"to cars", command("--to", "cars", "--path", cars)},
	} {
		if !t.Run(c.name, func(t *testing.T) {
			n := n.with(t)
			var had int64 // blocks that a run had in the target
			for kill := range kills {
				args := append(slices.Clone(c.args), "--bandwidth", slow)
				answers, ended := n.killed(time.Duration(choice.IntN(900))*time.Millisecond, args...)
				require.False(t, ended, "it ended before it was killed %d times", kills)
				first := true
				for _, e := range answers {
					if e.Progress == nil || e.Progress.Stage != "copying" || e.Progress.TotalBlocks == 0 {
						continue
					}
					if first && c.name != "to cars" && e.Progress.Blocks > 0 {
						first = false
						require.GreaterOrEqual(t, e.Progress.Blocks, had, "kill %d: what was copied is copied again", kill)
					}
					had = max(had, e.Progress.Blocks)
				}
				victim := refs[choice.IntN(len(refs))]
				require.Equal(t, victim, n.Run("block", "put", "--format=raw", n.saved(victim)), "kill %d", kill)
			}
			// Around the switch.
			for range kills {
				if _, ended := n.killed(time.Duration(choice.IntN(2000))*time.Millisecond, c.args...); ended {
					break
				}
				n.Run("block", "stat", refs[choice.IntN(len(refs))])
			}
			n.Run(c.args...)
			n.sound(refs, content)
		}) {
			return
		}
	}
	require.Equal(t, "again", n.spec()["path"])

	// All of it comes back from the CAR files alone, killed as well, into another repo.
	fresh := newNode(t)
	fresh.Run("init", "--profile", "test")
	own := fresh.refs()
	for range min(kills, 5) {
		_, ended := fresh.killed(time.Duration(choice.IntN(900))*time.Millisecond, command("--from", cars, "--bandwidth", slow)...)
		require.False(t, ended)
	}
	fresh.Run(command("--from", cars)...)
	for _, ref := range own { // the empty folder of MFS is in both
		require.Contains(t, fresh.refs(), ref)
	}
	fresh.sound(refs, content)
}

// saved reads a block into a file.
func (n *node) saved(ref string) string {
	n.T.Helper()
	out, err := n.Command("block", "get", ref).Output()
	require.NoError(n.T, err, ref)
	path := filepath.Join(n.T.TempDir(), "block")
	require.NoError(n.T, os.WriteFile(path, out, 0o600))
	return path
}
