package efs

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStat(t *testing.T) {
	d, err := Open(testConfig(t.TempDir()))
	require.NoError(t, err)
	for n := range 5 {
		key, value := block(n)
		require.NoError(t, d.Put(ctx, key, value))
	}
	key, _ := block(0)
	require.NoError(t, d.Delete(ctx, key))
	require.NoError(t, d.Sync(ctx, key))

	s, err := d.Stat()
	require.NoError(t, err)
	used, err := d.DiskUsage(ctx)
	require.NoError(t, err)
	require.Equal(t, Stat{Blocks: 4, Bytes: int64(used)}, s)
	require.NotZero(t, s.Bytes)

	d.writes <- struct{}{} // a writer at work
	d.removal.window <- struct{}{}
	s, err = d.Stat()
	require.NoError(t, err)
	require.Equal(t, 1, s.Writing)
	require.Equal(t, 1, s.Removing)
	<-d.writes
	<-d.removal.window

	require.NoError(t, d.Close())
	_, err = d.Stat()
	require.ErrorIs(t, err, ErrClosed)
}
