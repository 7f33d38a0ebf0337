package images

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

const (
	patience = 2 * time.Minute // for anything that has no bound of its own
	poll     = 50 * time.Millisecond

	current = "test"        // tag of the images of bin/
	before  = "test-before" // of those of an earlier version
)

// all are the images, in the order in which they are built.
var all = []string{"ipfs-aws", "cluster-aws", "local-cluster", "versitygw"}

// top is the repository.
const top = "../.."

var engine = sync.OnceValue(func() error {
	out, err := proc.Command("docker", "version", "--format", "{{.Server.Version}}").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
})

var built = sync.OnceValue(func() error { return build(filepath.Join(top, "bin"), current, all...) })

// builtBefore makes images of the two programs as an earlier version, once.
var builtBefore = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "images-before-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, program := range []struct{ module, at string }{{top, "./cmd/ipfs-aws"}, {top + "/cluster", "./cmd/cluster-aws"}} {
		cmd := proc.Command("go", "build", "-trimpath", "-o", dir+"/",
			"-ldflags", "-s -w -X github.com/ipfs-aws/ipfs-aws/internal/version.Version=0.0.1-before", program.at)
		cmd.Dir = program.module
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", program.at, err, out)
		}
	}
	if err := build(dir, before, "ipfs-aws", "cluster-aws"); err != nil {
		return err
	}
	for _, name := range []string{"local-cluster", "versitygw"} {
		if _, err := try(nil, "tag", name+":"+current, name+":"+before); err != nil {
			return err
		}
	}
	return nil
})

// need skips a test where there is no engine, and makes the images once.
func need(t *testing.T) {
	t.Helper()
	if err := engine(); err != nil {
		gate.Missing(t, gate.Docker, fmt.Sprintf("no engine answers, the images are not tested (%v)", err))
	}
	require.NoError(t, built(), "run `make build` first")
}

// build makes images of binaries, as `make images` does.
func build(binaries, version string, names ...string) error {
	binaries, err := filepath.Abs(binaries)
	if err != nil {
		return err
	}
	args := append([]string{"run", "./cmd/images", "docker"}, names...)
	cmd := proc.Command("go", append(args, "--binaries", binaries, "--version", version, "--commit", "0123456789ab", "--date", "1767225600")...)
	cmd.Dir = filepath.Join(top, "docker")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the images: %w: %s", err, out)
	}
	return nil
}

func TestMain(m *testing.M) {
	code := m.Run()
	if engine() == nil {
		for _, name := range all {
			for _, tag := range []string{current, before} { // what was not built is not there
				_ = proc.Command("docker", "rmi", "--force", name+":"+tag).Run()
			}
		}
	}
	os.Exit(code)
}

// try runs docker.
func try(in io.Reader, args ...string) (string, error) {
	cmd := proc.Command("docker", args...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := try(nil, args...)
	require.NoError(t, err)
	return out
}

// eventually waits for a condition, and says what was missing last.
func eventually(t *testing.T, within time.Duration, what string, cond func() error) {
	t.Helper()
	start := time.Now()
	again := time.NewTicker(poll)
	defer again.Stop()
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Since(start) > within {
			require.NoError(t, err, "%s: not within %s", what, within)
		}
		<-again.C
	}
}

// single is one container of ipfs-aws, confined as much as can be, with nothing but
// a volume.
type single struct {
	t            *testing.T
	name, volume string
}

func newSingle(t *testing.T) *single {
	t.Helper()
	name := fmt.Sprintf("ipfs-aws-test-%d-%s", os.Getpid(), strings.ToLower(t.Name()))
	s := &single{t: t, name: name, volume: name}
	docker(t, "volume", "create", s.volume)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := proc.Command("docker", "logs", "--tail", "20", s.name).CombinedOutput()
			t.Logf("%s said:\n%s", s.name, out)
		}
		_ = proc.Command("docker", "rm", "--force", s.name).Run()
		_ = proc.Command("docker", "volume", "rm", "--force", s.volume).Run()
	})
	return s
}

// confined is how a container is run with as little as it needs.
func (s *single) confined(more ...string) []string {
	return append([]string{"--name", s.name, "--read-only", "--cap-drop=ALL", "--security-opt", "no-new-privileges", "-v", s.volume + ":/data/ipfs"}, more...)
}

func (s *single) ready(since time.Time) time.Duration {
	s.t.Helper()
	eventually(s.t, patience, "ready", func() error {
		_, err := try(nil, "exec", s.name, "ipfs-aws", "health")
		return err
	})
	return time.Since(since)
}

// startup is how long the node took from the start of its process to being ready, by
// the engine's own clock; asking with docker exec takes a second of its own.
func (s *single) startup() time.Duration {
	s.t.Helper()
	began, err := time.Parse(time.RFC3339Nano, docker(s.t, "inspect", "--format", "{{.State.StartedAt}}", s.name))
	require.NoError(s.t, err)
	ready := time.Time{}
	for line := range strings.Lines(docker(s.t, "logs", "--timestamps", s.name)) {
		if at, said, _ := strings.Cut(strings.TrimSpace(line), " "); said == "Daemon is ready" {
			ready, err = time.Parse(time.RFC3339Nano, at)
			require.NoError(s.t, err)
		}
	}
	require.True(s.t, ready.After(began))
	return ready.Sub(began)
}

func (s *single) ipfs(in io.Reader, args ...string) string {
	s.t.Helper()
	out, err := try(in, append([]string{"exec", "-i", s.name, "ipfs-aws"}, args...)...)
	require.NoError(s.t, err)
	return out
}
