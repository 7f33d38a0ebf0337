package gate

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorded is a test that writes down how it ended.
type recorded struct {
	testing.TB
	skipped, failed string
}

func (r *recorded) Helper() {}

func (r *recorded) Skipf(format string, args ...any) {
	r.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorded) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func run(f func(testing.TB)) (skipped, failed string) {
	r := &recorded{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.skipped, r.failed
}

func TestAMissingPartIsSkippedOrFails(t *testing.T) {
	for list, want := range map[string]struct{ skipped, failed string }{
		"":              {skipped: "SKIPPED, not passed: docker is missing: no engine"},
		"fuse, root":    {skipped: "SKIPPED, not passed: docker is missing: no engine"},
		"fuse, docker,": {failed: "docker is required here (TEST_REQUIRE), and is missing: no engine"},
		"all":           {failed: "docker is required here (TEST_REQUIRE), and is missing: no engine"},
		"docker,fus":    {failed: `TEST_REQUIRE names "fus", which is no part`},
	} {
		t.Setenv(requireVariable, list)
		skipped, failed := run(func(tb testing.TB) { Missing(tb, Docker, "no engine") })
		require.Equal(t, want.skipped, skipped, list)
		require.True(t, strings.HasPrefix(failed, want.failed), failed)
		require.Equal(t, want.failed == "", failed == "", list)
	}
}

// The Makefile runs what is skipped under the race detector.
func TestTheMakefileRunsThePlainTests(t *testing.T) {
	makefile, err := os.ReadFile("../../../Makefile")
	require.NoError(t, err)
	require.Contains(t, string(makefile), "\nplain_tests := "+PlainTests+"\n")
	_, failed := run(func(tb testing.TB) { Plain(&named{tb, "TestOther"}, "") })
	require.Contains(t, failed, "TestOther would not run at all")
	skipped, failed := run(func(tb testing.TB) { Plain(&named{tb, "TestConformance/packs"}, "it is large") })
	require.Empty(t, failed)
	require.Equal(t, race || testing.Short() && !Full(), skipped != "")
}

type named struct {
	testing.TB
	name string
}

func (n *named) Name() string { return n.name }

func TestWhatIsLongRunsInFullOnly(t *testing.T) {
	t.Setenv(fullVariable, "")
	require.False(t, Full())
	skipped, failed := run(func(tb testing.TB) { Long(tb, "an hour") })
	require.Equal(t, "SKIPPED, runs with TEST_FULL=1 (make test-full): an hour", skipped)
	require.Empty(t, failed)
	want := 2
	if testing.Short() {
		want = 1
	}
	require.Equal(t, want, Rounds(1, 2, 3))

	t.Setenv(fullVariable, "1")
	require.True(t, Full())
	ran := false
	skipped, failed = run(func(tb testing.TB) {
		Long(tb, "an hour")
		NotQuick(tb, "ten seconds")
		ran = true
	})
	require.True(t, ran)
	require.Empty(t, skipped+failed)
	require.Equal(t, 3, Rounds(1, 2, 3))
}
