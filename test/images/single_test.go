package images

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

func TestTwoBuildsAreTheSameImage(t *testing.T) {
	need(t)
	ids := func() string {
		return docker(t, "inspect", "--format", "{{.Id}}", "ipfs-aws:"+current, "cluster-aws:"+current)
	}
	first := ids()
	require.NoError(t, build(filepath.Join(top, "bin"), current, "ipfs-aws", "cluster-aws"))
	require.Equal(t, first, ids())
	t.Logf("\n%s", docker(t, "images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}", "--filter", "reference=*:"+current))
}

// random is the same n bytes at every call.
func random(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{7}), n)
}

// Everything that is promised of a container with nothing but a volume.
func TestAloneWithNothingButAVolume(t *testing.T) {
	need(t)
	s := newSingle(t)
	docker(t, append([]string{"run", "-d"}, s.confined("ipfs-aws:"+current)...)...)
	s.ready(time.Now())
	t.Logf("first start to ready: %.1f s", s.startup().Seconds())
	require.Equal(t, "1000:1000", docker(t, "inspect", "--format", "{{.Config.User}}", s.name))
	require.Contains(t, s.ipfs(nil, "config", "Datastore.Spec"), `"type": "efsds"`)

	// 5 MiB in pieces of 1 KiB.
	cid := s.ipfs(random(5<<20), "add", "-Q", "--chunker=size-1024")
	require.Contains(t, s.ipfs(nil, "repo", "stat"), "NumObjects: 5", "more than 5,000 blocks")

	start := time.Now()
	docker(t, "stop", "--time", "120", s.name)
	t.Logf("stop of an idle node: %.1f s", time.Since(start).Seconds())
	require.Equal(t, "0", docker(t, "inspect", "--format", "{{.State.ExitCode}}", s.name))

	docker(t, "start", s.name)
	s.ready(time.Now())
	// 3 s are promised where nothing else runs, which a test cannot ask for.
	t.Logf("start to ready with 5,000 blocks: %.1f s", s.startup().Seconds())

	// A kill, in the middle of an add, and as often as one likes.
	for range 3 {
		adding := proc.Command("docker", "exec", "-i", s.name, "ipfs-aws", "add", "-Q", "--chunker=size-1024")
		adding.Stdin = random(64 << 20)
		require.NoError(t, adding.Start())
		docker(t, "kill", s.name)
		_ = adding.Wait() // was broken off, or was faster
		docker(t, "start", s.name)
		s.ready(time.Now())
	}
	want, err := io.ReadAll(random(5 << 20))
	require.NoError(t, err)
	require.True(t, s.ipfs(nil, "cat", "--offset=4096", "--length=512", cid) == strings.TrimSpace(string(want[4096:4096+512])), "the content has changed")
	require.Contains(t, s.ipfs(nil, "pin", "ls", "--type=recursive", cid), cid)
	s.ipfs(nil, "pin", "verify")
}

func TestAVolumeOfSomebodyElseIsRefusedInOneLine(t *testing.T) {
	need(t)
	for image, dir := range map[string]string{"ipfs-aws": "/data/ipfs", "cluster-aws": "/data/ipfs-cluster"} {
		foreign := t.TempDir()
		require.NoError(t, os.Chmod(foreign, 0o755))
		if info, err := os.Stat(foreign); os.Getuid() == 1000 || err != nil || info.Mode().Perm() != 0o755 {
			gate.Missing(t, gate.Root, "the folders of this user are the container's own")
		}
		args := []string{"run", "--rm", "--read-only", "--cap-drop=ALL", "-v", foreign + ":" + dir}
		if image == "cluster-aws" {
			args = append(args, "-e", "CLUSTER_PEERNAME=a", "-e", "CLUSTER_SECRET="+strings.Repeat("0a", 32))
		}
		out, err := proc.Command("docker", append(args, image+":"+current)...).CombinedOutput()
		require.Error(t, err)
		said := strings.TrimSpace(string(out))
		require.Contains(t, said, "chown -R 1000:1000 "+dir)
		require.NotContains(t, said, "\n")
		left, err := os.ReadDir(foreign)
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

// A busy node goes on serving after it was told to end, and says that it is not ready.
func TestStopServesWhatIsAsked(t *testing.T) {
	need(t)
	s := newSingle(t)
	docker(t, append([]string{"run", "-d"}, s.confined("-e", "IPFS_HEALTH_ADDRESS=0.0.0.0:8099", "ipfs-aws:"+current)...)...)
	s.ready(time.Now())
	cid := s.ipfs(strings.NewReader("still there"), "add", "-Q")
	at := docker(t, "inspect", "--format", "{{.NetworkSettings.IPAddress}}", s.name)
	docker(t, "kill", "--signal", "TERM", s.name)
	refused, served := 0, 0
	start := time.Now()
	for time.Since(start) < 2*time.Second {
		if _, err := fetch(plain, "http://"+at+":8099/readyz"); err != nil {
			require.ErrorContains(t, err, "503")
			refused++
		}
		b, err := fetch(plain, "http://"+at+":8080/ipfs/"+cid)
		require.NoError(t, err, "after %s", time.Since(start))
		require.Equal(t, "still there", string(b))
		served++
	}
	require.Greater(t, refused, 0)
	require.Equal(t, "0", docker(t, "wait", s.name), "an end in order")
	t.Logf("%d requests served after SIGTERM, %d times not ready; ended after %.1f s", served, refused, time.Since(start).Seconds())
}
