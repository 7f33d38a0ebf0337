package s3ds

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// A process that is told by these variables where its store is writes blocks until it is killed.
const (
	writerURL    = "S3DS_TEST_URL"
	writerBucket = "S3DS_TEST_BUCKET"
	writerRepo   = "S3DS_TEST_REPO"
	writerHow    = "S3DS_TEST_DURABILITY"
	writerFrom   = "S3DS_TEST_FROM"
)

func killConfig(url, bucket, durability string) Config {
	c := config(url, bucket)
	c.RootDirectory, c.Layout, c.Durability = "node", LayoutPacks, durability
	c.PackSize = 1 << 20
	return c
}

// numbered returns block n, of 1 to 64 KiB.
func numbered(n int) put {
	data := make([]byte, 1024*(1+n%64))
	binary.BigEndian.PutUint64(data, uint64(n))
	sum, err := mh.Sum(data, mh.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return put{name(sum).key(), data}
}

// writer is that process: it says the number of each block that was acknowledged. It reports false in any other process.
func writer() bool {
	url := os.Getenv(writerURL)
	if url == "" {
		return false
	}
	ctx := context.Background()
	from, err := strconv.Atoi(os.Getenv(writerFrom))
	if err == nil {
		var p *Packed
		p, err = OpenPacked(ctx, killConfig(url, os.Getenv(writerBucket), os.Getenv(writerHow)), os.Getenv(writerRepo), nil)
		for n := from; err == nil; n++ {
			one := numbered(n)
			if err = p.Put(ctx, one.key, one.value); err == nil {
				fmt.Println(n)
			}
		}
	}
	fmt.Println("failed:", err)
	os.Exit(1)
	return true
}

// TestKilledProcessLosesNothing kills a writing process with SIGKILL, again and again. With durability "bucket" its disk is
// taken away, too.
func TestKilledProcessLosesNothing(t *testing.T) {
	server := s3test.Start(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	for _, durability := range []string{DurableInJournal, DurableInBucket} {
		t.Run(durability, func(t *testing.T) {
			bucketName := server.NewBucket(t)
			c := killConfig(server.URL, bucketName, durability)
			repo := t.TempDir()
			next := 0
			rounds := gate.Rounds(2, 3, 8)
			for round := range rounds {
				child := proc.Command(exe)
				child.Env = append(os.Environ(), writerURL+"="+server.URL, writerBucket+"="+bucketName, writerRepo+"="+repo,
					writerHow+"="+durability, writerFrom+"="+strconv.Itoa(next))
				child.Stderr = os.Stderr
				out, err := child.StdoutPipe()
				require.NoError(t, err)
				require.NoError(t, child.Start())
				kill := func() { _ = child.Process.Kill() }
				t.Cleanup(kill)
				acknowledged := next
				for lines := bufio.NewScanner(out); lines.Scan(); {
					n, err := strconv.Atoi(lines.Text())
					require.NoError(t, err, lines.Text())
					// What is in the pipe when it dies was acknowledged, too: read to the end.
					if acknowledged = n + 1; acknowledged == next+5+13*round {
						kill()
					}
				}
				require.Error(t, child.Wait(), "killed")
				require.GreaterOrEqual(t, acknowledged, next+5+13*round)
				next = acknowledged
				var o parts
				o.fs = vfs.Default
				if durability == DurableInBucket {
					repo, c.TakeOver, o.lease = t.TempDir(), true, time.Millisecond
				}
				d, err := connect(t.Context(), c)
				require.NoError(t, err)
				p, err := openPacked(t.Context(), d, c, repo, o, nil)
				require.NoError(t, err)
				for n := range next {
					one := numbered(n)
					got, err := p.Get(t.Context(), one.key)
					require.NoError(t, err, "block %d of %d", n, next)
					require.Equal(t, one.value, got)
				}
				require.NoError(t, p.Close())
			}
			t.Logf("%d blocks acknowledged in %d lives, none lost", next, rounds)
		})
	}
}
