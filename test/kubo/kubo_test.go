package kubo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/local/process"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

var (
	only  = flag.String("only", "", "run those of kubo's tests only whose name matches; their lists are not held against them")
	side  = flag.Int("parallel-tests", 4, "how many of kubo's tests run at a time; they wait most of the time")
	quiet = flag.Bool("terse", false, "do not print what a failed test has written")
)

// kuboModule has the tests.
const kuboModule = "github.com/ipfs/kubo"

// cutOff bounds a run of one package: the longest takes 10 minutes on two quiet cores.
const cutOff = time.Hour

func TestMain(m *testing.M) { s3test.Main(m) }

// kubo's tests pass with our program, whatever the blockstore.
func TestKubo(t *testing.T) {
	suites := compile(t)
	for _, store := range []string{"flatfs", "efs", "s3"} {
		t.Run(store, func(t *testing.T) {
			always, init := settings(t, store)
			dir := layOut(t, suites, always, init)
			for _, s := range suites {
				t.Run(s.name, func(t *testing.T) { s.run(t, store, dir) })
			}
		})
	}
}

// settings are what a repo is made with.
func settings(t *testing.T, store string) (always, init []string) {
	if store != "flatfs" { // which is the default, with kubo's own spec
		init = []string{"IPFS_BLOCKSTORE=" + store}
	}
	if store == "s3" {
		gateway, err := filepath.Abs("../../bin/versitygw")
		require.NoError(t, err)
		t.Setenv("VERSITYGW_BIN", gateway)
		server := s3test.Start(t)
		always = []string{"AWS_ACCESS_KEY_ID=" + s3test.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3test.SecretKey}
		init = append(init, "IPFS_S3_BUCKET="+server.NewBucket(t), "IPFS_S3_REGION="+s3test.Region,
			"IPFS_S3_ENDPOINT="+server.URL, "IPFS_S3_PREFIX=NEWNAME")
	}
	return always, init
}

// suite is a package of kubo's tests.
type suite struct {
	name   string // below kubo's folder test
	source string // its folder in the module cache
	binary string
	tests  []string
}

// compile builds kubo's tests.
func compile(t *testing.T) []suite {
	bin := t.TempDir()
	out := command(t, "go", "list", "-tags", "deps", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}", kuboModule+"/test/cli/...")
	var suites []suite
	for line := range strings.Lines(out) {
		path, dir, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		s := suite{name: strings.TrimPrefix(path, kuboModule+"/test/"), source: dir}
		s.binary = filepath.Join(bin, strings.ReplaceAll(s.name, "/", "-"))
		command(t, "go", "test", "-c", "-o", s.binary, path)
		for name := range strings.Lines(command(t, s.binary, "-test.list", "^Test")) {
			s.tests = append(s.tests, strings.TrimSpace(name))
		}
		suites = append(suites, s)
	}
	require.NotEmpty(t, suites)
	return suites
}

// layOut makes a folder in which kubo's tests find what they look for, and returns it.
func layOut(t *testing.T, suites []suite, always, init []string) string {
	// A socket's path has 108 bytes at most, and kubo's tests make sockets deep down.
	dir, err := os.MkdirTemp("", "kubo")
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("everything is left in %s", dir)
			return
		}
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // tests leave folders that nothing may be removed from
			if err == nil && d.IsDir() {
				err = os.Chmod(path, 0o700)
			}
			return err
		})
		require.NoError(t, os.RemoveAll(dir))
	})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+kuboModule+"\n"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o700))
	copyData(t, filepath.Join(suites[0].source, "..", "..", "docs"), filepath.Join(dir, "docs"))
	for _, s := range suites {
		copyData(t, s.source, filepath.Join(dir, "test", s.name))
	}
	place := filepath.Join(dir, "cmd", "ipfs")
	require.NoError(t, os.MkdirAll(place, 0o700))
	file := filepath.Join(place, "store.json")
	command(t, "go", "build", "-ldflags", "-X main.file="+file, "-o", filepath.Join(place, "ipfs"), "./ipfs")
	program, err := filepath.Abs("../../bin/ipfs-aws")
	require.NoError(t, err)
	require.FileExists(t, program, "run `make build` first")
	b, err := json.Marshal(map[string]any{"Program": program, "Always": always, "Init": init})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, b, 0o600))
	return dir
}

// copyData copies what is no source; packages below are suites of their own.
func copyData(t *testing.T, from, to string) {
	require.NoError(t, os.MkdirAll(to, 0o700))
	require.NoError(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if strings.HasSuffix(path, ".go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	}))
}

// results are how tests ended, by name, and what they have written.
type results struct {
	began  map[string]bool
	ended  map[string]string // pass, fail or skip
	wrote  map[string]*strings.Builder
	broken string // the end of what was written, if the run broke off
}

// run runs a suite, and holds its results against the lists.
func (s suite) run(t *testing.T, store, dir string) {
	began := time.Now()
	fails, needs := s.listed(differences, store), s.listed(elsewhere, store)
	filter, err := regexp.Compile(*only)
	require.NoError(t, err)
	apart := append(slices.Collect(maps.Keys(fails)), slices.Collect(maps.Keys(needs))...)
	all := results{ended: map[string]string{}, wrote: map[string]*strings.Builder{}}
	// take keeps how a test ended, and reports whether it did, and well.
	take := func(r results, test string) bool {
		good := r.ended[test] != ""
		for name, how := range r.ended {
			if isOrIn(name, test) {
				all.ended[name], all.wrote[name] = how, r.wrote[name]
				good = good && how != "fail"
			}
		}
		return good
	}

	var pending, alone []string
	for _, test := range s.tests {
		if filter.MatchString(test) && !slices.Contains(apart, test) {
			pending = append(pending, test)
		}
	}
	for len(pending) > 0 {
		// A panic ends the run, and leaves the tests that had not ended for the next.
		r := s.start(t, dir, "^("+strings.Join(pending, "|")+")$", apart, *side)
		var left []string
		for _, test := range pending {
			switch {
			case r.ended[test] == "":
				left = append(left, test)
			case !take(r, test):
				alone = append(alone, test)
			}
		}
		if len(left) == len(pending) { // it says nothing of the one that has panicked
			alone, left = append(alone, left...), nil
		}
		pending = left
	}
	for _, test := range alone {
		for try := range 2 {
			maps.DeleteFunc(all.ended, func(name, _ string) bool { return isOrIn(name, test) })
			r := s.start(t, dir, pattern(test), apart, 1)
			if take(r, test) {
				t.Logf("%s %s failed among others, and passed alone (try %d)", s.name, test, try+1)
				break
			}
			if r.ended[test] == "" {
				all.ended[test], all.wrote[test] = "fail", &strings.Builder{}
				all.wrote[test].WriteString(r.broken)
			}
		}
	}
	all.judge(t, s.name)

	// Each in a run of its own, for some panic.
	for _, name := range slices.Sorted(maps.Keys(fails)) {
		if !filter.MatchString(name) {
			continue
		}
		r := s.start(t, dir, pattern(name), slices.Collect(maps.Keys(needs)), 1)
		switch {
		case !r.began[name]:
			t.Errorf("%s %s is listed as a difference, and is no test: take it off", s.name, name)
		case r.ended[name] == "pass" || r.ended[name] == "skip":
			t.Errorf("%s %s is listed as a difference, and ends with %q: take it off", s.name, name, r.ended[name])
		}
	}
	for name := range needs {
		if top, _, _ := strings.Cut(name, "/"); !slices.Contains(s.tests, top) {
			t.Errorf("%s %s is listed as one that needs something, and is no test: take it off", s.name, name)
		}
	}
	t.Logf("%s with %s: %s; %d differences, %d that need something; %s", s.name, store, count(all.ended), len(fails), len(needs), time.Since(began).Round(time.Second))
}

// judge fails for what has failed or skipped itself. What is below a test says more
// than the test.
func (r results) judge(t *testing.T, suite string) {
	names := slices.Sorted(maps.Keys(r.ended))
	for _, name := range names {
		if slices.ContainsFunc(names, func(other string) bool {
			return other != name && isOrIn(other, name) && r.ended[other] == r.ended[name]
		}) {
			continue
		}
		switch r.ended[name] {
		case "fail":
			out := ""
			if b := r.wrote[name]; b != nil && !*quiet {
				out = ":\n" + b.String()
			}
			t.Errorf("%s %s fails%s", suite, name, out)
		case "skip":
			t.Errorf("%s %s skips itself, and is not listed as one that needs something", suite, name)
		}
	}
}

func count(ended map[string]string) string {
	n := map[string]int{}
	for name, how := range ended {
		n[how]++
		if !strings.Contains(name, "/") {
			n["top"]++
		}
	}
	return fmt.Sprintf("%d tests, %d with their subtests: %d passed, %d failed, %d skipped", n["top"], len(ended), n["pass"], n["fail"], n["skip"])
}

// start runs the tests of the suite that a pattern says, but those that are named apart.
func (s suite) start(t *testing.T, dir, run string, apart []string, parallel int) results {
	log := filepath.Join(t.TempDir(), "log")
	args := []string{"-test.v=test2json", "-test.timeout", cutOff.String(), "-test.parallel", fmt.Sprint(parallel),
		"-test.run", run}
	if len(apart) > 0 {
		var skip []string
		for _, name := range apart {
			skip = append(skip, pattern(name))
		}
		args = append(args, "-test.skip", strings.Join(skip, "|"))
	}
	err := process.Run(context.Background(), process.Spec{
		Name: "kubo's " + s.name, Path: s.binary, Args: args, Dir: filepath.Join(dir, "test", s.name), Log: log,
		Env: append(os.Environ(), "TMPDIR="+filepath.Join(dir, "tmp"), "HOME="+dir,
			"PATH="+filepath.Join(dir, "cmd", "ipfs")+string(os.PathListSeparator)+os.Getenv("PATH")),
	})
	var exit *process.Exit
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	b, err := os.ReadFile(log)
	require.NoError(t, err)
	return parse(t, b)
}

// ending is the line that says how a test ended.
var ending = regexp.MustCompile(`(?m)^\x16?\s*--- (PASS|FAIL|SKIP): (\S+) \(`)

func parse(t *testing.T, log []byte) results {
	cmd := exec.Command("go", "tool", "test2json", "-t")
	cmd.Stdin = bytes.NewReader(log)
	out, err := cmd.Output()
	require.NoError(t, err)
	r := results{began: map[string]bool{}, ended: map[string]string{}, wrote: map[string]*strings.Builder{}}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		require.NoError(t, json.Unmarshal(lines.Bytes(), &e))
		switch e.Action {
		case "run":
			r.began[e.Test] = true
		case "output":
			if r.wrote[e.Test] == nil {
				r.wrote[e.Test] = &strings.Builder{}
			}
			r.wrote[e.Test].WriteString(e.Output)
		}
	}
	require.NoError(t, lines.Err())
	// test2json says nothing of the test that has panicked.
	for _, m := range ending.FindAllSubmatch(log, -1) {
		r.ended[string(m[2])] = strings.ToLower(string(m[1]))
	}
	r.broken = string(log[max(0, len(log)-8<<10):])
	return r
}

// listed are the names in a list that are of this suite and hold with a store.
func (s suite) listed(list []difference, store string) map[string]bool {
	names := map[string]bool{}
	for _, d := range list {
		suite, name, _ := strings.Cut(d.test, " ")
		if suite == s.name && (len(d.stores) == 0 || slices.Contains(d.stores, store)) {
			names[name] = true
		}
	}
	return names
}

// isOrIn reports whether a test is one that is named, or a subtest of it.
func isOrIn(name, test string) bool { return name == test || strings.HasPrefix(name, test+"/") }

// pattern is a name as the flags -test.run and -test.skip have it.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoErrorf(t, err, "%s %s: %s", name, strings.Join(args, " "), stderr.String())
	return string(out)
}
