package holders

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// shelf is a store of blocks.
type shelf struct {
	name   string
	list   []byte
	blocks int
	broken error
	reads  int
}

func (s *shelf) Name() string { return s.name }
func (s *shelf) Read(context.Context) ([]byte, error) {
	s.reads++
	return s.list, s.broken
}
func (s *shelf) Write(_ context.Context, list []byte) error {
	if s.broken == nil {
		s.list = list
	}
	return s.broken
}
func (s *shelf) Empty(context.Context) (bool, error) { return s.blocks == 0, s.broken }

func open(t *testing.T, repo string, on ...*shelf) *Repo {
	t.Helper()
	r, err := Open(repo, func() ([]Place, error) {
		var all []Place
		for _, s := range on {
			all = append(all, s)
		}
		return all, nil
	})
	require.NoError(t, err)
	return r
}

// made is a repo that was made a moment ago.
func made(t *testing.T, on ...*shelf) *Repo {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, Fresh(dir))
	return open(t, dir, on...)
}

func TestARepoAloneMayCollect(t *testing.T) {
	s := &shelf{name: "a"}
	r := made(t, s)
	require.NoError(t, r.Join(t.Context()))
	s.blocks = 3
	require.NoError(t, r.Check(t.Context()))
	again := open(t, r.path, s)
	require.NoError(t, again.Check(t.Context()), "a restart")
	require.Equal(t, r.state.ID, again.state.ID)
	reads := s.reads
	require.NoError(t, again.Join(t.Context()))
	require.Equal(t, reads, s.reads, "once in a process")
}

func TestTwoReposKnowOfEachOther(t *testing.T) {
	s := &shelf{name: "bucket/prefix"}
	a, b := made(t, s), made(t, s)
	require.NoError(t, a.Join(t.Context()))
	s.blocks = 1
	require.NoError(t, b.Join(t.Context()))
	var foreign *ForeignError
	require.ErrorAs(t, a.Check(t.Context()), &foreign)
	require.Equal(t, []string{b.state.ID}, foreign.Others)
	require.ErrorAs(t, b.Check(t.Context()), &foreign)
	require.Contains(t, foreign.Error(), "bucket/prefix")
	require.Contains(t, foreign.Error(), "gc --adopt")

	// What the advice leads to.
	require.NoError(t, b.Adopt(t.Context()))
	require.NoError(t, b.Check(t.Context()))
	require.ErrorAs(t, open(t, a.path, s).Check(t.Context()), &foreign, "the other is on the list again when it writes")
}

func TestBlocksWithoutAListAreOfSomeone(t *testing.T) {
	s := &shelf{name: "a", blocks: 7}
	var foreign *ForeignError
	require.ErrorAs(t, made(t, s).Check(t.Context()), &foreign)
	require.Equal(t, []string{unknown}, foreign.Others)

	// Not for a repo that was there before there were lists.
	old := open(t, t.TempDir(), &shelf{name: "b", blocks: 7})
	require.NoError(t, old.Check(t.Context()))
	// Nor for one whose blocks were moved to another store.
	moved := made(t, &shelf{name: "c"})
	require.NoError(t, moved.Join(t.Context()))
	require.NoError(t, open(t, moved.path, &shelf{name: "d", blocks: 7}).Check(t.Context()))
}

func TestEachPlaceOfARepoIsLookedAt(t *testing.T) {
	hot, cold := &shelf{name: "hot"}, &shelf{name: "cold"}
	r := made(t, hot, cold)
	require.NoError(t, r.Check(t.Context()))
	other := made(t, cold)
	require.NoError(t, other.Join(t.Context()))
	var foreign *ForeignError
	require.ErrorAs(t, r.Check(t.Context()), &foreign)
	require.Equal(t, "cold", foreign.Place)
}

func TestAnErrorOfThePlaceIsNoAnswer(t *testing.T) {
	s := &shelf{name: "a", broken: errors.New("503")}
	r := made(t, s)
	require.ErrorIs(t, r.Join(t.Context()), s.broken)
	require.ErrorIs(t, r.Check(t.Context()), s.broken)
	require.ErrorIs(t, r.Adopt(t.Context()), s.broken)
	s.broken = nil
	require.NoError(t, r.Join(t.Context()), "tried again")
	require.True(t, r.joined)
}

func TestAFileThatSaysNothingIsRefused(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Fresh(dir))
	require.NoError(t, os.WriteFile(file(dir), []byte("{}"), 0o600))
	_, err := Open(dir, nil)
	require.ErrorContains(t, err, "restore it from a backup")
	// The advice.
	require.NoError(t, os.Remove(file(dir)))
	require.NoError(t, open(t, dir, &shelf{name: "a"}).Adopt(t.Context()))
}
