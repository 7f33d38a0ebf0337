package faulty_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/buckettest"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
)

func TestTransparentWithoutRules(t *testing.T) {
	buckettest.Run(t, func(*testing.T) bucket.Bucket { return faulty.Wrap(mem.New()) })
}

func TestRules(t *testing.T) {
	broken := errors.New("broken")
	inner := mem.New()
	b := faulty.Wrap(inner)
	put := func(key string) error { return b.Put(t.Context(), key, strings.NewReader("0123456789")) }

	b.Set(faulty.Rule{Op: bucket.OpPut, Key: "bad", After: 1, Times: 2, Err: broken})
	require.NoError(t, put("bad 1"))
	require.NoError(t, put("good"))
	require.ErrorIs(t, put("bad 2"), broken)
	require.ErrorIs(t, put("bad 3"), broken)
	require.NoError(t, put("bad 4"))
	_, err := inner.Head(t.Context(), "bad 2")
	require.ErrorIs(t, err, bucket.ErrNotFound)

	b.Set(faulty.Rule{Op: bucket.OpPut, Err: broken, Late: true})
	require.ErrorIs(t, put("late"), broken)
	_, err = inner.Head(t.Context(), "late")
	require.NoError(t, err, "it took effect")

	for how, want := range map[faulty.Body]error{faulty.Reset: faulty.ErrReset, faulty.Truncate: nil, faulty.Flip: nil} {
		b.Set(faulty.Rule{Op: bucket.OpGet, Body: how})
		body, _, err := b.Get(t.Context(), "good", bucket.Range{})
		require.NoError(t, err)
		data, err := io.ReadAll(body)
		require.ErrorIs(t, err, want)
		require.NoError(t, body.Close())
		if how == faulty.Flip {
			require.Equal(t, "0123446789", string(data))
		} else {
			require.Equal(t, "01234", string(data))
		}
	}
}
