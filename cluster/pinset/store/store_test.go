package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	ds "github.com/ipfs/go-datastore"
	dstest "github.com/ipfs/go-datastore/test"
	pebbleds "github.com/ipfs/go-ds-pebble"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// TestMain lets the test binary play the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_TEST_WRITER"); dir != "" {
		write(dir, os.Getenv("STORE_TEST_SYNC"))
		return
	}
	os.Exit(m.Run())
}

func key(i int) ds.Key { return ds.NewKey(strconv.Itoa(i)) }

// write puts records for ever and prints the number of each one that was
// acknowledged: single puts, and every fifth time a batch of three. Deferred
// writes are acknowledged after a sync.
func write(dir, how string) {
	opt := pebble.NoSync
	if how != "never" {
		opt = pebble.Sync
	}
	d, err := open(dir, Options{}, opt)
	exitOn(err)
	var s Datastore = d
	if how == "deferred" {
		s = (&Store{d, &life{}}).Deferred()
	}
	ctx := context.Background()
	for i := 0; ; {
		n := 1
		if i%5 == 4 {
			n = 3
			b, err := s.Batch(ctx)
			for j := range n {
				if err == nil {
					err = b.Put(ctx, key(i+j), []byte("value"))
				}
			}
			if err == nil {
				err = b.Commit(ctx)
			}
			exitOn(err)
		} else {
			exitOn(s.Put(ctx, key(i), []byte("value")))
		}
		if how == "deferred" {
			exitOn(s.Sync(ctx, ds.NewKey("")))
		}
		for range n {
			fmt.Println(i)
			i++
		}
	}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// kill runs a writer, kills it with SIGKILL once it has acknowledged that many
// records, and returns how many it had acknowledged when it died and how many
// of those are there afterwards.
func kill(t *testing.T, how string, after int) (acknowledged, found int) {
	dir := filepath.Join(t.TempDir(), "store")
	cmd := proc.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_TEST_WRITER="+dir, "STORE_TEST_SYNC="+how)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		acknowledged++
		if acknowledged == after {
			require.NoError(t, cmd.Process.Kill())
		}
	}
	err = cmd.Wait()
	require.ErrorContains(t, err, "killed")

	s, err := Open(dir, Options{})
	require.NoError(t, err)
	defer s.Close()
	for i := range acknowledged {
		ok, err := s.Has(context.Background(), key(i))
		require.NoError(t, err)
		if ok {
			found++
		}
	}
	return acknowledged, found
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	random := gate.Random(t)
	for range gate.Rounds(2, 5, 20) {
		acknowledged, found := kill(t, "always", 1+random.IntN(200))
		require.Equal(t, acknowledged, found)
	}
}

// The control: the same kill, with the writes that ipfs-cluster's own store
// does. If this stops losing records, the test above proves nothing.
func TestKillLosesUnsyncedWrites(t *testing.T) {
	for range 10 {
		acknowledged, found := kill(t, "never", 50)
		if found < acknowledged {
			return
		}
	}
	t.Fatal("no unsynced record was lost in ten kills")
}

// On the deferred view, because the suite writes tens of thousands of records
// one by one and durability is not what it looks at.
func TestConformance(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "store"), Options{})
	require.NoError(t, err)
	dstest.SubtestAll(t, s.Deferred())
	require.NoError(t, s.Deferred().Close(), "closes nothing")
	require.NoError(t, s.Close())
}

func TestFolderIsPrivateAndUsedOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(dir, Options{})
	require.NoError(t, err)
	st, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), st.Mode().Perm())
	_, err = Open(dir, Options{})
	require.ErrorContains(t, err, dir)
	require.NoError(t, s.Close())
	s, err = Open(dir, Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// ipfs-cluster's store on the same folder reads what ours wrote, and the other
// way round.
func TestFolderChangesHands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	ctx := context.Background()
	s, err := Open(dir, Options{})
	require.NoError(t, err)
	require.NoError(t, s.Put(ctx, ds.NewKey("ours"), []byte(strings.Repeat("x", 10_000))))
	require.NoError(t, s.Close())
	up, err := pebbleds.NewDatastore(dir, pebbleds.WithPebbleOpts(&pebble.Options{FormatMajorVersion: pebble.FormatNewest}))
	require.NoError(t, err)
	v, err := up.Get(ctx, ds.NewKey("ours"))
	require.NoError(t, err)
	require.Len(t, v, 10_000)
	require.NoError(t, up.Put(ctx, ds.NewKey("theirs"), []byte("y")))
	require.NoError(t, up.Close())
	s, err = Open(dir, Options{})
	require.NoError(t, err)
	v, err = s.Get(ctx, ds.NewKey("theirs"))
	require.NoError(t, err)
	require.Equal(t, "y", string(v))
	require.NoError(t, s.Close())
}

func TestKillLosesNoDeferredWriteThatWasSynced(t *testing.T) {
	random := gate.Random(t)
	for range gate.Rounds(2, 5, 20) {
		acknowledged, found := kill(t, "deferred", 1+random.IntN(200))
		require.Equal(t, acknowledged, found)
	}
}
