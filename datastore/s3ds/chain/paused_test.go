package chain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	s3bucket "github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/s3"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// A process that is told by these variables where the bucket is owns the chain, and appends each line that it reads, or asks if it is "?".
const (
	sleeperURL    = "CHAIN_TEST_URL"
	sleeperBucket = "CHAIN_TEST_BUCKET"
)

func openBucket(url, name string) (*s3bucket.Bucket, error) {
	return s3bucket.New(context.Background(), s3bucket.Options{
		Bucket: name, Region: s3test.Region, Endpoint: url, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey,
	})
}

// sleeper is that process. It reports false in any other one.
func sleeper() bool {
	url := os.Getenv(sleeperURL)
	if url == "" {
		return false
	}
	err := func() error {
		b, err := openBucket(url, os.Getenv(sleeperBucket))
		if err != nil {
			return err
		}
		c, err := Open(context.Background(), b, root, Options{Node: "sleeper", Host: "sleeper-host"})
		if err != nil {
			return err
		}
		fmt.Println("owns")
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			if in.Text() == "?" {
				err = c.Confirm(context.Background())
			} else {
				_, err = c.Append(context.Background(), in.Bytes())
			}
			switch {
			case err == nil:
				fmt.Println("yes")
			case errors.Is(err, ErrFenced):
				fmt.Println("fenced")
			default:
				return err
			}
		}
		return nil
	}()
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	return true
}

// TestProcessThatWakesUpLate stops an owner, as it is and with a request of its in the pipe, lets another process take over, and wakes the first one.
func TestProcessThatWakesUpLate(t *testing.T) {
	server := s3test.Start(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	for _, asleep := range []string{"?", "w"} {
		name := server.NewBucket(t)
		child := exec.Command(exe)
		child.Env = append(os.Environ(), sleeperURL+"="+server.URL, sleeperBucket+"="+name)
		child.Stderr = os.Stderr
		in, err := child.StdinPipe()
		require.NoError(t, err)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		t.Cleanup(func() {
			_ = child.Process.Kill()
			_ = child.Wait()
		})
		lines := bufio.NewScanner(out)
		says := func(want string) {
			t.Helper()
			require.True(t, lines.Scan(), "the process ended")
			require.Equal(t, want, lines.Text())
		}
		tell := func(line string) {
			t.Helper()
			_, err := fmt.Fprintln(in, line)
			require.NoError(t, err)
		}
		says("owns")
		tell("x")
		says("yes")
		tell("?")
		says("yes")
		require.NoError(t, proc.Stop(child.Process.Pid))
		tell(asleep)

		b, err := openBucket(server.URL, name)
		require.NoError(t, err)
		t.Cleanup(func() { _ = b.Close() })
		c := open(t, b, "heir")
		require.Equal(t, "x", content(t, c.State()))
		add(t, c, "y")

		require.NoError(t, child.Process.Signal(syscall.SIGCONT))
		says("fenced")
		tell("z")
		says("fenced")
		require.NoError(t, c.Confirm(t.Context()))
		require.Equal(t, "xy", content(t, open(t, b, "third").State()))
		require.NoError(t, in.Close())
	}
}
