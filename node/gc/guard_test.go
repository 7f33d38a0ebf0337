package gc

import (
	"context"
	"errors"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/node/touched"
)

// `block rm` deletes what no operation under way has touched, and nothing else.
func TestRemovalByName(t *testing.T) {
	log, err := touched.Open(t.TempDir(), touched.Options{Slice: time.Hour})
	require.NoError(t, err)
	g := NewGuard(time.Hour, nil)
	g.Use(log)
	s := g.Blocks(&memory{data: map[string][]byte{}, put: map[string]time.Time{}}, false)
	before, within := blocks.NewBlock([]byte("before")), blocks.NewBlock([]byte("within"))
	require.NoError(t, s.Put(t.Context(), before))
	op := g.Begin()
	require.NoError(t, s.Put(t.Context(), within))
	remove := func(b blocks.Block) error {
		l := Locker{g}.GCLock(t.Context())
		defer l.Unlock(t.Context())
		return s.DeleteBlock(t.Context(), b.Cid())
	}
	given, cancel := context.WithCancel(t.Context()) // who does not wait for the operation
	cancel()
	l := Locker{g}.GCLock(given)
	require.ErrorIs(t, s.DeleteBlock(t.Context(), within.Cid()), ErrInUse)
	l.Unlock(t.Context())
	time.AfterFunc(10*time.Millisecond, op.End) // it is waited for
	require.NoError(t, remove(within))
	require.NoError(t, remove(before), "however young")
	has, err := s.Has(t.Context(), before.Cid())
	require.NoError(t, err)
	require.False(t, has)
	require.False(t, errors.Is(remove(before), ErrInUse))
}
