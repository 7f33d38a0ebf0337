package owner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	s3bucket "github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/s3"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// A process that is told by these variables where the bucket is owns the prefix and asks Hold for each line that it reads.
const (
	wakerURL    = "OWNER_TEST_URL"
	wakerBucket = "OWNER_TEST_BUCKET"
)

// shortLease keeps the test short; with grace a dead owner is replaced after 6 s to 8 s.
const shortLease = time.Second

func openBucket(url, name string) (*s3bucket.Bucket, error) {
	return s3bucket.New(context.Background(), s3bucket.Options{
		Bucket: name, Region: s3test.Region, Endpoint: url, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey,
	})
}

// waker is that process. It reports false in any other one.
func waker() bool {
	url := os.Getenv(wakerURL)
	if url == "" {
		return false
	}
	err := func() error {
		b, err := openBucket(url, os.Getenv(wakerBucket))
		if err != nil {
			return err
		}
		o, err := Acquire(context.Background(), b, Options{Key: key, ID: "sleeper", Host: "sleeper-host", Lease: shortLease})
		if err != nil {
			return err
		}
		fmt.Println("acquired")
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			switch err := o.Hold(context.Background()); {
			case err == nil:
				fmt.Println("holds")
			case errors.Is(err, ErrReplaced):
				fmt.Println("replaced")
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

// TestProcessThatWakesUpLate stops an owner in the middle of its work, lets another node take over, and wakes the first one.
func TestProcessThatWakesUpLate(t *testing.T) {
	server := s3test.Start(t)
	name := server.NewBucket(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	child := proc.Command(exe)
	child.Env = append(os.Environ(), wakerURL+"="+server.URL, wakerBucket+"="+name)
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
	ask := func() {
		t.Helper()
		_, err := fmt.Fprintln(in, "?")
		require.NoError(t, err)
	}
	says("acquired")
	ask()
	says("holds")
	require.NoError(t, proc.Stop(child.Process.Pid))

	b, err := openBucket(server.URL, name)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	heir := Options{Key: key, ID: "heir", Host: "here", Lease: 10 * time.Minute}
	_, err = Acquire(t.Context(), b, heir)
	require.ErrorIs(t, err, ErrOwned)
	require.Contains(t, err.Error(), "sleeper-host")
	var o *Owner
	require.Eventually(t, func() bool {
		o, err = Acquire(t.Context(), b, heir)
		return !errors.Is(err, ErrOwned)
	}, time.Minute, 200*time.Millisecond)
	require.NoError(t, err)
	require.NoError(t, o.Hold(t.Context()))

	require.NoError(t, child.Process.Signal(syscall.SIGCONT))
	ask()
	says("replaced")
	ask()
	says("replaced")
	require.NoError(t, o.Hold(t.Context()))
	require.NoError(t, in.Close())
}
