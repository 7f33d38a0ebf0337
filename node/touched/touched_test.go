package touched

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// machine is a clock, and the name of the boot that it belongs to.
type machine struct {
	now   Time
	boot  string
	floor Time
}

func (m *machine) open(t *testing.T, dir string) *Log {
	t.Helper()
	l, err := Open(dir, Options{
		Now: func() Time { return m.now }, Boot: func() string { return m.boot },
		Slice: time.Second, Floor: func() Time { return m.floor },
	})
	require.NoError(t, err)
	return l
}

func (m *machine) pass(d time.Duration) Time {
	m.now = m.now.Add(d)
	return m.now
}

func touches(t *testing.T, l *Log, from Time) []Digest {
	t.Helper()
	var all []Digest
	require.NoError(t, l.Visit(from, func(d Digest) { all = append(all, d) }))
	return all
}

func TestWhatWasAddedIsVisited(t *testing.T) {
	m := &machine{now: 1000, boot: "a"}
	l := m.open(t, t.TempDir())
	require.EqualValues(t, 1000, l.Since())
	require.NoError(t, l.Add(1, 2))
	m.pass(2 * time.Second)
	require.NoError(t, l.Add(3))
	later := m.pass(2 * time.Second)
	require.NoError(t, l.Add(4))
	require.Equal(t, []Digest{1, 2, 3, 4}, touches(t, l, 1000))
	require.Equal(t, []Digest{4}, touches(t, l, later))
	require.Error(t, l.Visit(999, func(Digest) {}), "before the history")
}

func TestACutEndsASlice(t *testing.T) {
	m := &machine{now: 1000, boot: "a"}
	l := m.open(t, t.TempDir())
	require.NoError(t, l.Add(1))
	m.pass(1)
	require.NoError(t, l.Cut())
	require.NoError(t, l.Cut())
	later := m.pass(1)
	require.Empty(t, touches(t, l, later))
	require.NoError(t, l.Add(2))
	require.Equal(t, []Digest{2}, touches(t, l, later))
	require.Equal(t, []Digest{1, 2}, touches(t, l, 1000))
}

func TestTimesAreExactWithinASlice(t *testing.T) {
	m := &machine{now: 1000, boot: "a"}
	dir := t.TempDir()
	l := m.open(t, dir)
	require.NoError(t, l.Add(1))
	m.pass(stampEvery)
	require.NoError(t, l.Add(2))
	m.pass(stampEvery)
	require.NoError(t, l.Add(3, 4))
	require.Equal(t, []Digest{3, 4}, touches(t, l, m.now))
	require.Equal(t, []Digest{2, 3, 4}, touches(t, l, m.now.Add(-stampEvery)))
	require.Equal(t, []Digest{1, 2, 3, 4}, touches(t, l, 1000))
	// A kill in the middle of a stamp.
	f, err := os.OpenFile(filepath.Join(dir, "0000000000000001"+suffix), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.Write(bytes.Repeat([]byte{0xff}, 8))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, []Digest{1, 2, 3, 4}, touches(t, l, 1000))
	l = m.open(t, dir)
	require.NoError(t, l.Add(5))
	require.Equal(t, []Digest{1, 2, 3, 4, 5}, touches(t, l, 1000))
}

func TestAFileThatIsGoneOnWithSaysHowOldItIs(t *testing.T) {
	m := &machine{now: 1000, boot: "a"}
	dir := t.TempDir()
	require.NoError(t, m.open(t, dir).Add(1))
	m.pass(time.Second / 2)
	l := m.open(t, dir)
	later := m.pass(time.Hour)
	require.Empty(t, touches(t, l, later), "nothing was added since")
	require.NoError(t, l.Cut())
	require.Empty(t, touches(t, l, later), "nor when the file has ended")
	require.Equal(t, []Digest{1}, touches(t, l, 1000))
}

func TestItSurvivesTheProcess(t *testing.T) {
	m := &machine{now: 1000, boot: "a"}
	dir := t.TempDir()
	l := m.open(t, dir)
	require.NoError(t, l.Add(1, 2))
	// A kill: nothing is closed, and a record is torn.
	f, err := os.OpenFile(filepath.Join(dir, "0000000000000001"+suffix), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.Write([]byte{9, 9, 9})
	require.NoError(t, err)
	require.NoError(t, f.Close())
	m.pass(time.Second / 2)
	l = m.open(t, dir)
	require.NoError(t, l.Add(3), "in the same file, over what is torn")
	m.pass(time.Hour)
	l = m.open(t, dir)
	require.EqualValues(t, 1000, l.Since())
	require.NoError(t, l.Add(4))
	require.Equal(t, []Digest{1, 2, 3, 4}, touches(t, l, 1000))
}

func TestADamagedHistoryBeginsAgain(t *testing.T) {
	file := func(n int) string { return fmt.Sprintf("%016x"+suffix, n) }
	for name, damage := range map[string]func(t *testing.T, m *machine, dir string){
		"another boot":        func(_ *testing.T, m *machine, _ string) { m.boot = "b" },
		"no name of a boot":   func(_ *testing.T, m *machine, _ string) { m.boot = "" },
		"the clock is behind": func(_ *testing.T, m *machine, _ string) { m.now = 500 },
		"the newest file is gone": func(t *testing.T, _ *machine, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, file(3))))
		},
		"one in the middle is gone": func(t *testing.T, _ *machine, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, file(2))))
		},
		"head is gone": func(t *testing.T, _ *machine, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, headFile)))
		},
		"a header is cut": func(t *testing.T, _ *machine, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, file(2)), 20))
		},
		"a header is changed": func(t *testing.T, _ *machine, dir string) {
			f, err := os.OpenFile(filepath.Join(dir, file(2)), os.O_RDWR, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte{0}, 24)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{now: 1000, boot: "a"}
			dir := t.TempDir()
			l := m.open(t, dir)
			for range 3 {
				require.NoError(t, l.Add(7))
				m.pass(2 * time.Second)
			}
			require.NoError(t, l.Close())
			damage(t, m, dir)
			l = m.open(t, dir)
			require.Equal(t, m.now, l.Since())
			require.NoError(t, l.Add(8))
			require.Equal(t, []Digest{8}, touches(t, l, m.now))
			require.NoError(t, l.Close())
			if m.boot != "" {
				require.Equal(t, []Digest{8}, touches(t, m.open(t, dir), m.now), "and is one again")
			}
		})
	}
}

func TestAFileThatWasMadeAndNotNamedIsNone(t *testing.T) {
	m := &machine{now: 1000, boot: "a"}
	dir := t.TempDir()
	l := m.open(t, dir)
	require.NoError(t, l.Add(1))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "0000000000000002"+suffix), nil, 0o600))
	l = m.open(t, dir)
	require.EqualValues(t, 1000, l.Since())
	require.Equal(t, []Digest{1}, touches(t, l, 1000))
}

func TestAHistoryThatCannotBeWrittenBeginsAgain(t *testing.T) {
	m := &machine{now: 1000, boot: "a"}
	dir := t.TempDir()
	l := m.open(t, dir)
	require.NoError(t, l.Add(1))
	require.NoError(t, l.out.Close()) // as a disk that is full
	m.pass(time.Second / 2)
	require.NoError(t, l.Add(2), "the block may be written: from now on everything is young")
	require.Equal(t, m.now, l.Since())
	require.Error(t, l.Visit(1000, func(Digest) {}))
	m.pass(time.Second / 2)
	require.Equal(t, m.now, l.Since(), "as long as nothing is written")
	require.NoError(t, l.Add(3))
	began := m.now
	m.pass(time.Second / 2)
	require.Equal(t, began, l.Since())
	require.Equal(t, []Digest{3}, touches(t, l, began))
	l = m.open(t, dir)
	require.Equal(t, []Digest{3}, touches(t, l, began))
}

func TestFilesThatAreNotNeededGo(t *testing.T) {
	m := &machine{now: 1000, boot: "a"}
	dir := t.TempDir()
	l := m.open(t, dir)
	for i := range 100 {
		require.NoError(t, l.Add(Digest(i)))
		m.pass(2 * time.Second)
		m.floor = m.now.Add(-10 * time.Second)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	require.NoError(t, err)
	require.LessOrEqual(t, len(files), 8)
	require.LessOrEqual(t, l.Since(), m.floor)
	found := touches(t, l, m.floor)
	require.Subset(t, found, []Digest{95, 96, 97, 98, 99})
	require.LessOrEqual(t, len(found), 8)
}

func TestASetNeverForgets(t *testing.T) {
	s := NewSet()
	const n = maxExact + 100_000
	for i := range n {
		s.Add(Digest(i))
	}
	for i := range n {
		require.True(t, s.Has(Digest(i)))
	}
	wrong := 0
	for i := range 100_000 {
		if s.Has(Digest(1<<40 + i)) {
			wrong++
		}
	}
	require.Less(t, wrong, 100)
}

func BenchmarkAdd(b *testing.B) {
	for _, n := range []int{1, 128} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l, err := Open(b.TempDir(), Options{})
			require.NoError(b, err)
			keys := make([]Digest, n)
			for b.Loop() {
				if err := l.Add(keys...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
