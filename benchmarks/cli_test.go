package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/report"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// Whatever is wrong is one line that says what would be right.
func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "results.json"), []byte(`{"schema": 1, "unheard": 2}`), 0o600))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"run", "--stores", "s3-pax"}, "flatfs-efs, efs-onezone-elastic"},
		{[]string{"run", "--workloads", "juggle"}, "add-file, add-1mib"},
		{[]string{"run", "--levels", "kernel"}, "datastore, kubo"},
		{[]string{"run", "--profile", "long"}, "short, full, reference, smoke"},
		{[]string{"run", "--s3-class", "glacier"}, "standard, intelligent-tiering, express"},
		{[]string{"run", "--scale", "0"}, "--scale 0"},
		{[]string{"run", "--samples", "-1"}, "--samples -1"},
		{[]string{"run", "--max-usd", "0"}, "--max-usd 0"},
		{[]string{"run", "--s3-endpoint", "http://127.0.0.1:1"}, "needs --bucket"},
		{[]string{"run", "--dilation", "3", "--bucket", "b"}, "cannot be slowed down"},
		{[]string{"run", "--efs-path", filepath.Join(dir, "no"), "--out", filepath.Join(dir, "x")}, "is no folder"},
		{[]string{"run", "--ipfs", filepath.Join(dir, "no"), "--out", filepath.Join(dir, "y")}, "make build"},
		{[]string{"run", "--out", dir}, "--resume " + dir},
		{[]string{"run", "--resume", filepath.Join(dir, "none")}, "no such file"},
		{[]string{"run", "--resume", dir}, "unheard"},
		{[]string{"compare", dir, dir}, "unheard"},
		{[]string{"advise", "--stored", "lots"}, "such as 500GB"},
		{[]string{"advise", "--stored", "500"}, "there is no unit: use a number with a unit"},
		{[]string{"advise", "--stored", "0"}, "--stored: use an amount above 0"},
		{[]string{"advise", "--metrics", filepath.Join(dir, "none")}, "no such file"},
		{[]string{"advise", "--metrics", filepath.Join(dir, "results.json")}, "metrics"},
	} {
		stdout, stderr, code := bench(t, nil, c.args...)
		require.Equal(t, 1, code, "%s: %s%s", c.args, stdout, stderr)
		last := strings.Split(strings.TrimSpace(stderr), "\n")
		require.Contains(t, last[len(last)-1], c.want, "%s", c.args)
		require.Len(t, last, 1, "%s: one line", c.args)
	}
}

// real is the environment of a run against a bucket that is taken for a real one.
func real(t *testing.T) (env, args []string, server *s3test.Server, bucket string) {
	server = s3test.Start(t)
	bucket = server.NewBucket(t)
	env = []string{"AWS_ACCESS_KEY_ID=" + s3test.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3test.SecretKey, "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull}
	args = []string{"run", "--profile", "smoke", "--levels", "datastore", "--s3-endpoint", server.URL, "--bucket", bucket, "--region", s3test.Region}
	return env, args, server, bucket
}

// A run stops before it overspends, keeps and reports what it has, and goes on with more money; nothing is left in the bucket.
func TestBudgetAndResume(t *testing.T) {
	env, args, server, bucket := real(t)
	out := filepath.Join(t.TempDir(), "results")
	// 4 PUT of the first store are $0.00004, the 100 HEAD of its wants $0.00004
	_, stderr, code := bench(t, env, append(args, "--stores", "go-ds-s3", "--workloads", "add-file,cat-cold,wants,idle", "--max-usd", "0.00013", "--out", out)...)
	require.Equal(t, budgetReached, code, stderr)
	require.Contains(t, stderr, "--max-usd")
	res, err := record.Read(out)
	require.NoError(t, err)
	require.LessOrEqual(t, res.SpentUSD, 0.00013)
	require.Positive(t, res.SpentUSD)
	require.Nil(t, res.Finished)
	require.Contains(t, res.Stopped, "budget")
	before := len(res.Samples)
	require.Positive(t, before, "what was measured is kept")
	require.Less(t, before, 4)
	require.FileExists(t, filepath.Join(out, report.HTML), "and reported")
	first := res.Samples[0]

	_, stderr, code = bench(t, env, "run", "--resume", out, "--max-usd", "1")
	require.Zero(t, code, stderr)
	res, err = record.Read(out)
	require.NoError(t, err)
	require.Len(t, res.Samples, 4)
	require.Equal(t, first, res.Samples[0], "what was there is not measured again")
	require.NotNil(t, res.Finished)
	require.Greater(t, res.SpentUSD, 0.00013, "the money spent before still counts")

	left, err := os.ReadDir(filepath.Join(server.Dir, bucket))
	require.NoError(t, err)
	for _, e := range left {
		inside, err := os.ReadDir(filepath.Join(server.Dir, bucket, e.Name()))
		if err == nil {
			require.Empty(t, inside, e.Name())
		}
	}
}

// On a real mount nobody stands in between: what work may cost is put aside before it begins.
func TestRealMount(t *testing.T) {
	mount, out := t.TempDir(), t.TempDir()
	args := []string{"run", "--profile", "smoke", "--levels", "datastore", "--stores", "flatfs-efs,efs-onezone-elastic,pebble", "--workloads", "add-file,cat-cold", "--efs-path", mount}
	stdout, stderr, code := bench(t, nil, append(args, "--out", filepath.Join(out, "a"))...)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout+stderr, "is not on an NFS mount: its requests are not counted")
	res, err := record.Read(filepath.Join(out, "a"))
	require.NoError(t, err)
	require.Len(t, res.Samples, 6)
	require.Positive(t, res.SpentUSD, "what was put aside counts as spent")
	left, err := os.ReadDir(mount)
	require.NoError(t, err)
	require.Empty(t, left)

	_, stderr, code = bench(t, nil, append(args, "--max-usd", "0.0001", "--out", filepath.Join(out, "b"))...)
	require.Equal(t, budgetReached, code, stderr)
	require.Contains(t, stderr, "--max-usd")
	res, err = record.Read(filepath.Join(out, "b"))
	require.NoError(t, err)
	require.LessOrEqual(t, res.SpentUSD, 0.0001)
	for _, s := range res.Samples {
		require.Equal(t, "pebble", s.Store, "the local disk costs nothing")
	}
}

// Credentials that may not use the bucket, and a bucket that is not there, are said in one line before anything is measured.
func TestNoPermission(t *testing.T) {
	env, args, _, _ := real(t)
	out := t.TempDir()
	_, stderr, code := bench(t, append(env, "AWS_SECRET_ACCESS_KEY=wrong"), append(args, "--stores", "s3-packs", "--out", filepath.Join(out, "a"))...)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "s3:ListBucket")
	_, stderr, code = bench(t, env, append(args, "--stores", "s3-packs", "--bucket", "no-such-bucket", "--out", filepath.Join(out, "b"))...)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "no-such-bucket")
}

// A run that is interrupted says how to go on, and what it has is there.
func TestInterrupted(t *testing.T) {
	out := filepath.Join(t.TempDir(), "results")
	var stderr strings.Builder
	cmd := command(t, nil, "run", "--profile", "smoke", "--levels", "datastore", "--stores", "pebble,flatfs", "--workloads", "add-file,idle", "--scale", "400", "--out", out)
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	// the second workload idles for 20 s: there is time to find the first one's sample
	require.Eventually(t, func() bool { _, err := os.Stat(filepath.Join(out, record.FileName)); return err == nil }, time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		res, err := record.Read(out)
		return err == nil && len(res.Samples) >= 1
	}, time.Minute, 20*time.Millisecond, "a sample is on disk as soon as it is measured")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	err := cmd.Wait()
	require.Error(t, err)
	require.Equal(t, interrupted, cmd.ProcessState.ExitCode(), stderr.String())
	require.Contains(t, stderr.String(), "--resume "+out)
	res, err := record.Read(out)
	require.NoError(t, err)
	require.NotEmpty(t, res.Samples)
	require.Contains(t, res.Stopped, "signal")
	require.FileExists(t, filepath.Join(out, report.Markdown))
}

// What changed outside the noise is said, with its direction; what did not is counted.
func TestCompare(t *testing.T) {
	const reference = "results/reference"
	a, err := record.Read(reference)
	require.NoError(t, err)
	b, err := record.Read(reference)
	require.NoError(t, err)
	for i := range b.Samples {
		switch s := &b.Samples[i]; {
		case s.Store == "go-ds-s3" && s.Workload == "add-tree": // three times as slow, for three times as much
			s.Seconds *= 3
			s.USD *= 3
		case s.Store == "s3-packs" && s.Workload == "cat-warm": // a hundred times as fast
			s.Seconds /= 100
		default:
			s.Seconds *= 1 + 0.0001*float64(i%3-1)
		}
	}
	b.Settings.Dilation *= 2
	other := t.TempDir()
	require.NoError(t, b.Write(other))

	stdout, stderr, code := bench(t, nil, "compare", reference, other)
	require.Zero(t, code, stderr)
	rows := map[string]string{}
	for line := range strings.Lines(stdout) {
		if f := strings.Fields(line); len(f) > 4 && f[1] == record.Kubo {
			rows[strings.Join(f[:3], " ")] += strings.Join(f[3:], " ") + "\n"
		}
	}
	require.Contains(t, stdout, fmt.Sprintf("beware: dilation: A has %v, B has %v", a.Settings.Dilation, b.Settings.Dilation))
	require.Len(t, rows, 2, stdout)
	slower, faster := rows["go-ds-s3 kubo add-tree"], rows["s3-packs kubo cat-warm"]
	require.Regexp(t, `(?m)^time .* 3\.00 worse$`, slower)
	require.Regexp(t, `(?m)^throughput .* 0\.33 worse$`, slower)
	require.Regexp(t, `(?m)^dollars per TiB .* 3\.00 worse$`, slower)
	require.NotContains(t, slower, "requests", "as many as before")
	require.Regexp(t, `(?m)^throughput .* 100\.00 better$`, faster)

	stdout, stderr, code = bench(t, nil, "compare", reference, reference)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, ": 0 changed, ")
	require.NotContains(t, stdout, "beware")
	all, _, _ := bench(t, nil, "compare", "--all", reference, reference)
	require.Greater(t, strings.Count(all, "no difference"), len(a.Samples)/a.Settings.Samples, "--all shows them too")
}
