package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestErrorIsOneLineThatCanBeTestedFor(t *testing.T) {
	err := error(&Error{Op: OpGet, Bucket: "b", Key: "a key", Kind: ErrAccessDenied, Detail: "403\n  AccessDenied", Fix: "allow\nit", Cause: io.ErrUnexpectedEOF})
	require.Equal(t, `get object "a key" in bucket "b": access denied (403 AccessDenied): allow it`, err.Error())
	require.ErrorIs(t, err, ErrAccessDenied)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotErrorIs(t, err, ErrNotFound)
	require.Equal(t, `check bucket "b": bucket does not exist`, (&Error{Op: OpCheck, Bucket: "b", Kind: ErrNoBucket}).Error())
}

func TestDeleteErrorNamesAFewAndKnowsAll(t *testing.T) {
	e := &DeleteError{Failed: map[string]error{}}
	for i := range 5 {
		e.Failed[fmt.Sprint("k", i)] = ErrAccessDenied
	}
	e.Failed["k4"] = context.Canceled
	err := error(e)
	require.Equal(t, `5 objects not deleted, "k0", "k1", "k2" and 2 more: access denied`, err.Error())
	require.True(t, errors.Is(err, ErrAccessDenied) && errors.Is(err, context.Canceled))
}

func TestClip(t *testing.T) {
	for _, c := range []struct {
		r    Range
		size int64
		n    int64
		err  error
	}{
		{Range{}, 0, 0, nil}, {Range{}, 5, 5, nil}, {Range{Offset: 2}, 5, 3, nil}, {Range{Offset: 2, Length: 2}, 5, 2, nil},
		{Range{Offset: 2, Length: 1 << 62}, 5, 3, nil}, {Range{Offset: 5}, 5, 0, ErrInvalidRange}, {Range{Length: 1}, 0, 0, ErrInvalidRange},
		{Range{Offset: -1, Length: 1}, 5, 0, ErrInvalidRange}, {Range{Length: -1}, 5, 0, ErrInvalidRange},
	} {
		n, err := c.r.Clip(c.size)
		require.Equal(t, c.n, n, "%+v", c)
		require.ErrorIs(t, err, c.err, "%+v", c)
	}
}
