package node

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// containerEnv keeps a test's node off the network and off fixed ports.
var containerEnv = []string{"IPFS_PROFILE=test"}

func newContainer(t *testing.T, env ...string) *node {
	return newNode(t, append(append([]string{}, containerEnv...), env...)...)
}

// container is `ipfs-aws container`, ready.
func (n *node) container(args ...string) *daemon {
	n.t.Helper()
	d := n.start(append([]string{"container"}, args...)...)
	d.ready()
	return d
}

func (n *node) value(key string) string { return n.run("config", key) }

func TestContainerOnAnEmptyVolumeAndAgain(t *testing.T) {
	n := newContainer(t)
	require.Contains(t, n.run("container", "--check"), "all is well: a new repo would be made at "+n.dir+", blockstore efs, files under blocks")
	require.NoDirExists(t, n.dir, "a check changes nothing")

	d := n.container()
	require.Regexp(t, `(?m)^Blockstore: efs, files under `, d.logged())
	require.Equal(t, "70s", n.value("Internal.ShutdownTimeout"))
	require.Contains(t, n.value("Datastore.Spec"), `"type": "efsds"`)
	require.NotContains(t, n.value("Datastore.Spec"), "namesDurable", "it is for network file systems")
	cid := n.addText("kept")
	id := n.run("id", "-f", "<id>")
	require.NoError(t, d.stop(syscall.SIGTERM), "an end in order is 0")

	require.Contains(t, n.run("container", "--check"), "0 settings would change")
	before := n.config()
	d = n.container()
	require.Empty(t, d.settingsLines())
	require.Equal(t, before, n.config())
	require.Equal(t, id, n.run("id", "-f", "<id>"))
	require.Error(t, d.stop(syscall.SIGKILL))

	// What a kill leaves behind stops no start.
	for _, name := range []string{"repo.lock", "api", "gateway"} {
		require.FileExists(t, filepath.Join(n.dir, name))
	}
	n.container()
	require.Equal(t, "kept", n.run("cat", cid))
}

func TestContainerInABucket(t *testing.T) {
	s := s3test.Start(t)
	n := newContainer(t, "IPFS_BLOCKSTORE=s3", "IPFS_S3_BUCKET="+s.NewBucket(t), "IPFS_S3_REGION="+s3test.Region, "IPFS_S3_ENDPOINT="+s.URL,
		"IPFS_S3_ACCESS_KEY="+s3test.AccessKey, "IPFS_S3_SECRET_KEY="+s3test.SecretKey)
	d := n.container()
	require.Regexp(t, `(?m)^Blockstore: s3, bucket `, d.logged())
	require.Equal(t, "roots", n.value("Provide.Strategy"))
	cid := n.addText("in a bucket")
	require.NoError(t, d.stop(syscall.SIGTERM))
	require.NotContains(t, n.config(), s3test.SecretKey)

	wrong := n.with("IPFS_S3_SECRET_KEY=wrong-secret")
	require.Contains(t, wrong.fail("container"), "access denied")
	n.container()
	require.Equal(t, "in a bucket", n.run("cat", cid))
}

// A first start that is killed anywhere is made good by the next one.
func TestContainerKilledWhileItMakesTheRepo(t *testing.T) {
	whole := newContainer(t)
	require.NoError(t, whole.container().stop(syscall.SIGTERM))
	for _, have := range [][]string{{}, {"config"}, {"config", "datastore_spec"}, {"config", "datastore_spec", "version"}} {
		n := newContainer(t)
		require.NoError(t, os.MkdirAll(n.dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(n.dir, ".ipfs-aws-init"), nil, 0o600))
		for _, name := range have {
			b, err := os.ReadFile(filepath.Join(whole.dir, name))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(n.dir, name), b, 0o600))
		}
		n.container()
		require.NoFileExists(t, filepath.Join(n.dir, ".ipfs-aws-init"))
		n.addText("works")
	}
}

// The same with a real process, killed as soon as a file is there: at some of them with every change.
func TestContainerKilledAtEachStepOfItsFirstStart(t *testing.T) {
	steps := []string{".ipfs-aws-init", "config", "datastore_spec", "version", "blocks", "datastore", "keystore", "api"}
	gate.Random(t).Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	for _, name := range steps[:gate.Rounds(1, 3, len(steps))] {
		n := newContainer(t)
		d := n.start("container")
		require.Eventually(t, func() bool {
			_, err := os.Lstat(filepath.Join(n.dir, name))
			return err == nil
		}, time.Minute, 100*time.Microsecond, name)
		require.Error(t, d.stop(syscall.SIGKILL))
		d = n.container()
		require.NoError(t, d.stop(syscall.SIGTERM))
		require.Contains(t, n.run("container", "--check"), "0 settings would change")
	}
}

func TestContainerAppliesKeysOfKubosConfig(t *testing.T) {
	n := newContainer(t)
	require.NoError(t, n.container().stop(syscall.SIGTERM))

	n = n.with("IPFS_CONFIG_Swarm_ConnMgr_HighWater=33", `IPFS_CONFIG_JSON={"Gateway":{"NoFetch":true}}`, "IPFS_CONFIG_Plugins_Plugins_telemetry_Config_Endpoint=http://127.0.0.1:1")
	d := n.container()
	require.Equal(t, "33", n.value("Swarm.ConnMgr.HighWater"))
	require.Equal(t, "true", n.value("Gateway.NoFetch"))
	require.Len(t, d.settingsLines(), 4)
	require.Contains(t, d.logged(), "beginning anew")
	require.FileExists(t, filepath.Join(n.dir, "telemetry_uuid"), "plugins have their settings at this start already")
	require.NoError(t, d.stop(syscall.SIGTERM))
	require.Empty(t, n.container().settingsLines())
}

func TestContainerInAPrivateNetwork(t *testing.T) {
	key := "/key/swarm/psk/1.0.0/\n/base16/\n" + strings.Repeat("0f", 32)
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte(key+"\n"), 0o600))
	// Without the profile test, which switches off what would stand in the way.
	n := newNode(t, "IPFS_SWARM_KEY_FILE="+file, "IPFS_CONFIG_Addresses_Swarm=/ip4/127.0.0.1/tcp/0", "IPFS_CONFIG_Addresses_API=/ip4/127.0.0.1/tcp/0",
		"IPFS_CONFIG_Addresses_Gateway=/ip4/127.0.0.1/tcp/0", "IPFS_CONFIG_Discovery_MDNS_Enabled=false")
	d := n.container()
	require.Contains(t, d.logged(), "Swarm is limited to private network of peers with the swarm key")
	info, err := os.Stat(filepath.Join(n.dir, "swarm.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o400), info.Mode())
	require.Equal(t, "dht", n.value("Routing.Type"))
	require.NoError(t, d.stop(syscall.SIGTERM))

	by := n.with("IPFS_SWARM_KEY_FILE=", "IPFS_SWARM_KEY="+key)
	d = by.container()
	require.Empty(t, d.settingsLines(), "the same key, given otherwise")
}

// Versions 16 and 17 are migrated here; for older ones kubo wants the network.
func TestContainerMigratesTheRepo(t *testing.T) {
	n := newContainer(t)
	require.NoError(t, n.container().stop(syscall.SIGTERM))
	version := filepath.Join(n.dir, "version")
	at := func(v string) { require.NoError(t, os.WriteFile(version, []byte(v+"\n"), 0o600)) }

	at("17")
	require.Contains(t, n.run("container", "--check"), "version 17 would be migrated to 18")
	d := n.with("IPFS_CONFIG_Datastore_StorageMax=1TB").container()
	require.Contains(t, d.logged(), "migrating the repo at "+n.dir+" from version 17 to 18")
	require.Contains(t, d.settingsLines(), `Datastore.StorageMax: "1PB" → "1TB" (IPFS_CONFIG_Datastore_StorageMax)`)
	require.NoError(t, d.stop(syscall.SIGTERM))
	b, err := os.ReadFile(version)
	require.NoError(t, err)
	require.Equal(t, "18", strings.TrimSpace(string(b)))

	at("15")
	down := "http://" + ports.Address(t)
	line := n.with("HTTPS_PROXY="+down, "HTTP_PROXY="+down).fail("container")
	require.Contains(t, line, "has version 15, and the migrations to version 16 could not be fetched or run")
	require.Contains(t, line, "give this container a way out to the network for one start")

	at("19")
	require.Contains(t, n.fail("container"), "has version 19, and this release reads versions up to 18, nothing was changed: start a newer release")
	require.NoError(t, os.Remove(version))
	require.Contains(t, n.fail("container"), "restore its file version")
}

func TestContainerOnAVolumeOfSomebodyElse(t *testing.T) {
	if os.Getuid() != 0 {
		gate.Missing(t, gate.Root, "only root can act for other users")
	}
	n := newContainer(t)
	n.dir = filepath.Join(os.TempDir(), fmt.Sprintf("ipfs-aws-volume-%d", os.Getpid()))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(n.dir)) })
	n = n.with("IPFS_PATH="+n.dir, "HOME="+n.dir)
	require.NoError(t, os.Mkdir(n.dir, 0o755))
	as := func(args ...string) string {
		out := &strings.Builder{}
		cmd := n.command(args...)
		cmd.Stderr = out
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		require.Error(t, cmd.Run())
		return strings.TrimSpace(out.String())
	}
	want := n.dir + " belongs to user 0 (mode 0755), and this process is user 65534 (permission denied): `chown -R 65534:65534 " + n.dir + "` as root, or run as that user"
	for _, args := range [][]string{{"container"}, {"container", "--check"}} {
		line := as(args...)
		require.Contains(t, line, want)
		require.NotContains(t, line, "\n")
	}
	left, err := os.ReadDir(n.dir)
	require.NoError(t, err)
	require.Empty(t, left)

	require.NoError(t, n.container().stop(syscall.SIGTERM)) // by root, and then the folder alone changes hands
	require.NoError(t, os.Chown(n.dir, 65534, 65534))
	require.Contains(t, as("container"), filepath.Join(n.dir, "config")+" belongs to user 0 (mode 0600), and this process is user 65534")
}

// Signals that come before the daemon runs end it as well.
func TestContainerEndsWhileItWaitsForTheRepo(t *testing.T) {
	n := newContainer(t)
	n.container()
	require.Contains(t, n.fail("container"), "another process uses the repo at "+n.dir+": stop it, or wait for its end with IPFS_WAIT_REPO_LOCK")
	waiting := n.with("IPFS_WAIT_REPO_LOCK=1h").start("container") // stop gives up after a minute
	require.Eventually(t, func() bool {
		return strings.Contains(waiting.logged(), "waiting for another process to leave the repo")
	}, time.Minute, 10*time.Millisecond)
	// It is alive, and says what it does, or ECS would end it while it waits.
	asked := n.with("IPFS_HEALTH_ADDRESS=" + waiting.health)
	require.Eventually(t, func() bool { return asked.command("health", "--live").Run() == nil }, time.Minute, 10*time.Millisecond)
	require.Contains(t, asked.fail("health"), "not ready: node: starting")
	require.Error(t, waiting.stop(syscall.SIGTERM), "it has not run: not 0")
}

func TestHealthCommand(t *testing.T) {
	s := s3test.Start(t)
	proxy := s3test.NewProxy(t, s.URL)
	n := newContainer(t, "AWS_ACCESS_KEY_ID="+s3test.AccessKey, "AWS_SECRET_ACCESS_KEY="+s3test.SecretKey,
		"IPFS_BLOCKSTORE=s3", "IPFS_S3_BUCKET="+s.NewBucket(t), "IPFS_S3_REGION="+s3test.Region, "IPFS_S3_ENDPOINT="+proxy.URL, "IPFS_S3_SEAL_AGE=50ms")
	free := ports.Address(t)
	none := n.with("IPFS_HEALTH_ADDRESS=" + free)
	require.Contains(t, none.fail("health"), "nothing answers at "+free)

	d := n.container()
	_, port, err := net.SplitHostPort(d.health)
	require.NoError(t, err)
	for _, address := range []string{d.health, ":" + port, "0.0.0.0:" + port} {
		asked := n.with("IPFS_HEALTH_ADDRESS="+address, "IPFS_PATH=/nowhere", "IPFS_S3_BUKET=x")
		require.Empty(t, asked.run("health"), "it needs no repo, and no settings but one")
		asked.run("health", "--live")
	}
	n = n.with("IPFS_HEALTH_ADDRESS=" + d.health)
	proxy.Disturb(s3test.Always("", s3test.Fault{Status: http.StatusForbidden, Code: "AccessDenied", Message: "gone"}))
	n.addText("to be uploaded")
	require.Eventually(t, func() bool {
		out, err := n.command("health").CombinedOutput()
		return err != nil && strings.Contains(string(out), "health: not ready: blockstore: ") && strings.Contains(string(out), "access denied")
	}, time.Minute, 50*time.Millisecond)
	n.run("health", "--live")
	proxy.Disturb(nil)
	require.NoError(t, d.stop(syscall.SIGTERM))

	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	require.Contains(t, n.with("IPFS_HEALTH_ADDRESS="+strings.TrimPrefix(other.URL, "http://")).fail("health"), "another program listens there")

	// The address may stand in the config.
	fresh := newContainer(t, "IPFS_HEALTH_ADDRESS=", `IPFS_CONFIG_Plugins_Plugins_health_Config={"Address": "`+free+`"}`)
	fresh.start("container")
	require.Eventually(t, func() bool { return fresh.command("health").Run() == nil }, time.Minute, 50*time.Millisecond)
}

// Every new command says what it does, with an example.
func TestHelpHasExamples(t *testing.T) {
	n := newNode(t)
	for _, command := range []string{"container", "health", "init", "daemon", "datastore"} {
		require.Contains(t, n.run(command, "--help"), "ipfs-aws "+command, command)
	}
}
