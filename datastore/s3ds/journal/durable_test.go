package journal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// A segment that was handed out has its name for good: power lost right after
// leaves that one file of it, however it was sealed. Otherwise it could come
// back under another name after its pack was uploaded.
func TestHandedOutIsDurable(t *testing.T) {
	handedOut := func(t *testing.T, fs *testFS, s interface{ Name() pack.Name }) {
		after := wrapFS(fs.crashNow()) // nothing that was not synced
		require.Equal(t, []string{s.Name().String()}, fileNames(t, after))
		_, rec := reopen(t, options(after))
		require.Equal(t, 1, rec.Blocks)
	}
	b := blockOf(t, []byte("block"))
	t.Run("sealed in place", func(t *testing.T) {
		fs := newFS()
		j := open(t, options(fs))
		put(t, j, b)
		require.NoError(t, j.Seal(t.Context()))
		handedOut(t, fs, next(t, j))
	})
	t.Run("copied after a failed sync", func(t *testing.T) {
		fs := newFS()
		j := open(t, options(fs))
		put(t, j, b)
		failed := false
		fs.setHook(func(op, _ string) error {
			if op == "sync" && !failed {
				failed = true
				return errIO
			}
			return nil
		})
		require.NoError(t, j.Seal(t.Context()))
		require.True(t, failed)
		handedOut(t, fs, next(t, j))
	})
	t.Run("recovered", func(t *testing.T) {
		fs := newFS()
		put(t, open(t, options(fs)), b)
		fs = wrapFS(fs.crashNow())
		require.Contains(t, fileNames(t, fs)[0], ".open")
		j := open(t, options(fs))
		handedOut(t, fs, next(t, j))
	})
}

// A batch that fails half-way keeps the room of the half that is durable, and
// gives back the rest.
func TestRoomOfFailedBatch(t *testing.T) {
	fs := newFS()
	o := options(fs)
	o.SegmentBytes = 3000
	j := open(t, o)
	put(t, j, numbered(t, 0, 1000))
	one := j.Stats().Bytes
	syncs := 0
	fs.setHook(func(op, _ string) error {
		if op == "syncdata" {
			if syncs++; syncs == 2 {
				return errIO
			}
		}
		return nil
	})
	_, err := j.Append(t.Context(), []pack.Block{numbered(t, 1, 1000), numbered(t, 2, 1000)})
	require.ErrorIs(t, err, errIO)
	require.Equal(t, 2, syncs, "the second block began a segment")
	require.Equal(t, 2*one, j.Stats().Bytes)
	require.NoError(t, j.Seal(t.Context()))
	s := next(t, j)
	require.Equal(t, 2, s.Blocks())
	require.NoError(t, j.Remove(s.ID()))
	require.Zero(t, j.Stats().Bytes)
	require.Zero(t, j.Stats().Segments)
}
