// Package gate says how much a run of the tests has to prove.
//
// Two variables of the environment decide it:
//
//	TEST_FULL=1                run what is long as well, all rounds of it: `make test-full`, every night
//	TEST_REQUIRE=docker,fuse   parts of the machine that are there: a test that misses one of
//	                           them fails and is not skipped. "all" names every part
//
// Without them a change is tested: long tests and tests that miss a part are skipped, visibly.
package gate

import (
	"flag"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Part is something that a machine may lack.
type Part string

// The parts that tests ask for.
const (
	Docker  Part = "docker"  // an engine that answers
	FUSE    Part = "fuse"    // /dev/fuse, and the right to mount
	Browser Part = "browser" // Chromium
	Root    Part = "root"    // other users' files, namespaces
	Nsenter Part = "nsenter" // of util-linux
	Proc    Part = "proc"    // /proc as Linux has it
	Port    Part = "port"    // a fixed port that no other program listens on
)

var parts = []Part{Docker, FUSE, Browser, Root, Nsenter, Proc, Port}

// Variables of the environment.
const (
	fullVariable    = "TEST_FULL"
	requireVariable = "TEST_REQUIRE"
	seedVariable    = "TEST_SEED"
	everything      = "all"
)

// Full reports whether this run proves what is long as well.
func Full() bool { return os.Getenv(fullVariable) == "1" }

// Long skips a test that is too long for every change. It goes on with TEST_FULL=1.
func Long(t testing.TB, why string) {
	t.Helper()
	if !Full() {
		t.Skipf("SKIPPED, runs with %s=1 (make test-full): %s", fullVariable, why)
	}
}

// NotQuick skips a test that -short has no time for.
func NotQuick(t testing.TB, why string) {
	t.Helper()
	if testing.Short() && !Full() {
		t.Skipf("SKIPPED by -short: %s", why)
	}
}

// Rounds is how often a random or repeated test runs: with -short, for a change, and in full.
func Rounds(quick, change, full int) int {
	switch {
	case Full():
		return full
	case testing.Short():
		return quick
	}
	return change
}

// PlainTests matches the tests that run without the race detector: go-datastore's suite, of which
// the largest part is not registered with it, and what compares much data and shares none of it
// between goroutines. `make test` runs them in a stage of their own; a test holds the Makefile to it.
const PlainTests = "Conformance|RequestsOf|FlippedBits|EveryErrorInEveryOperation|TestCat|MemoryOf64Adds|Histories|NoTwoOwners|LostToAnotherNode"

var plainTests = regexp.MustCompile(PlainTests)

// Plain skips a test under the race detector, and with -short. It fails if the stage without would
// leave the test out.
func Plain(t testing.TB, why string) {
	t.Helper()
	if !plainTests.MatchString(t.Name()) {
		t.Fatalf("%s would not run at all: its name is not in gate.PlainTests", t.Name())
	}
	NotQuick(t, why)
	if race {
		t.Skipf("SKIPPED, runs without the race detector (make test-conformance): %s", why)
	}
}

// Histories is Rounds for random histories: the race detector, which makes them several times
// slower, sees a fifth of those of a change, and the stage without it runs them all.
func Histories(t testing.TB, quick, change, full int) int {
	t.Helper()
	if !plainTests.MatchString(t.Name()) {
		t.Fatalf("%s would run a fifth of its histories: its name is not in gate.PlainTests", t.Name())
	}
	if race {
		change = max(quick, change/5)
	}
	return Rounds(quick, change, full)
}

// Random returns a source that differs from run to run, and logs its seed. TEST_SEED=n repeats a run.
func Random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv(seedVariable); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("%s=%q is no number", seedVariable, s)
		}
		seed = n
	}
	t.Logf("%s=%d repeats this", seedVariable, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Checks makes pgregory.net/rapid try as many histories as [Histories] says, until the test ends. A
// number given with -rapid.checks counts instead.
func Checks(t testing.TB, quick, change, full int) {
	t.Helper()
	const name = "rapid.checks"
	f := flag.Lookup(name)
	if f == nil {
		t.Fatalf("gate.Checks in a test that does not use rapid")
	}
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if given {
		return
	}
	before := f.Value.String()
	set := func(n string) {
		if err := f.Value.Set(n); err != nil { // flag.Set would make it a given one
			t.Fatal(err)
		}
	}
	set(strconv.Itoa(Histories(t, quick, change, full)))
	t.Cleanup(func() { set(before) })
}

// Missing skips a test because the machine lacks a part, or fails it where TEST_REQUIRE names the
// part. detail says what was looked for, and how to get it.
func Missing(t testing.TB, part Part, detail string) {
	t.Helper()
	required, unknown := names(os.Getenv(requireVariable), part)
	switch {
	case unknown != "":
		t.Fatalf("%s names %q, which is no part; the parts are %v and %q", requireVariable, unknown, parts, everything)
	case required:
		t.Fatalf("%s is required here (%s), and is missing: %s", part, requireVariable, detail)
	}
	t.Skipf("SKIPPED, not passed: %s is missing: %s", part, detail)
}

// Required reports whether a machine that lacks the part fails the tests.
func Required(part Part) bool {
	required, _ := names(os.Getenv(requireVariable), part)
	return required
}

// names reports whether a list, as TEST_REQUIRE has it, names a part, and the first of its names
// that is none.
func names(list string, part Part) (required bool, unknown string) {
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		switch {
		case name == "":
		case name == everything || name == string(part):
			required = true
		case !slices.Contains(parts, Part(name)) && unknown == "":
			unknown = name
		}
	}
	return required, unknown
}
