package cluster

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/libp2p/go-libp2p"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/self/identity"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// TestThePeersFindEachOther starts three peers in every order, each one after
// the one before it lives, and on empty folders.
func TestThePeersFindEachOther(t *testing.T) {
	t.Parallel()
	all := tasks(t, options{names: three(), standIn: true})
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		began := time.Now()
		last := began
		for _, i := range order {
			last = time.Now()
			all[i].startSidecar()
			require.Eventually(t, all[i].lives, patience, poll)
		}
		awaitAll(t, all)
		t.Logf("order %v: one cluster %.1f s after the first process was started, %.1f s after the last", order, time.Since(began).Seconds(), time.Since(last).Seconds())
		for _, k := range all {
			k.wipe()
		}
	}
}

// wipe kills the sidecar and removes its folder.
func (k *task) wipe() {
	k.sidecar.kill()
	require.NoError(k.t, os.RemoveAll(k.settings["IPFS_CLUSTER_PATH"]))
}

func (k *task) lives() bool {
	res, err := http.Get(k.health + "/livez")
	return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
}

// TestAPeerComesBack takes one of three peers away in several ways, pins
// meanwhile, and waits until it is back and says that it has caught up.
// CLUSTER_TEST_PAUSE_SECONDS=180 pauses for minutes.
func TestAPeerComesBack(t *testing.T) {
	t.Parallel()
	pause := time.Duration(scale(t, "CLUSTER_TEST_PAUSE_SECONDS", 20)) * time.Second
	all := tasks(t, options{names: three(), standIn: true})
	hosts := ownNames(t, all)
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)
	pinned := 0
	pin := func(n int) {
		for range n {
			code, body, err := all[pinned%2].request(http.MethodPost, "/pins/"+rawCID(t, fmt.Sprint(pinned)))
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, code, string(body))
			pinned++
		}
	}
	victim := all[2]
	gone := func() {
		for _, k := range all[:2] {
			require.Eventually(t, func() bool {
				return strings.Contains(k.readiness().detail("peers"), "missing: "+victim.name)
			}, patience, poll, "%s: %+v", k.name, k.readiness())
		}
	}
	for _, c := range []struct {
		what       string
		away, back func()
	}{
		{"its folder was wiped", victim.wipe, victim.startSidecar},
		{"its address changed", victim.sidecar.kill, func() {
			require.NoError(t, os.WriteFile(hosts, []byte(hostsFile(all, "127.0.0.7")), 0o600))
			victim.settings["CLUSTER_LISTENMULTIADDRESS"] = "/ip4/127.0.0.7/tcp/" + victim.swarm
			victim.startSidecar()
		}},
		{"it was paused", func() {
			require.NoError(t, proc.Stop(victim.sidecar.cmd.Process.Pid))
			<-time.After(pause) // this is the case, not a wait for something
		}, func() { require.NoError(t, victim.sidecar.cmd.Process.Signal(syscall.SIGCONT)) }},
	} {
		pin(20)
		c.away()
		gone()
		pin(20)
		began := time.Now()
		c.back()
		require.Eventually(t, func() bool { return victim.count() == pinned }, patience, poll, "%s: %+v", c.what, victim.readiness())
		awaitAll(t, all)
		t.Logf("%s: it has caught up, and all see it, after %.1f s", c.what, time.Since(began).Seconds())
	}
}

// ownNames makes the sidecars find each other by names of their own, through a
// hosts file that only they see and that the test may change. It returns the
// file, and skips the test where a process cannot be given one.
func ownNames(t *testing.T, all []*task) string {
	file := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(file, []byte(hostsFile(all, "127.0.0.1")), 0o600))
	const mount = `mount --bind "$0" /etc/hosts && exec "$@"`
	attr := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	probe := exec.Command("/bin/sh", "-c", mount, file, "true")
	probe.SysProcAttr = attr
	if out, err := probe.CombinedOutput(); err != nil {
		gate.Missing(t, gate.Root, fmt.Sprintf("no right to mount a file in a namespace: %v: %s", err, out))
	}
	var peers []string
	for _, k := range all {
		peers = append(peers, fmt.Sprintf("%s=/dns4/%s.test/tcp/%s", k.name, k.name, k.swarm))
	}
	for _, k := range all {
		k.settings["CLUSTER_PEERS"] = strings.Join(peers, ",")
		k.sidecar.args = append([]string{"-c", mount, file, k.sidecar.path}, k.sidecar.args...)
		k.sidecar.path, k.sidecar.attr = "/bin/sh", attr
	}
	return file
}

// hostsFile gives every task its name, and the last one the given address.
func hostsFile(all []*task, last string) string {
	lines := "127.0.0.1 localhost\n"
	for i, k := range all {
		address := "127.0.0.1"
		if i == len(all)-1 {
			address = last
		}
		lines += address + " " + k.name + ".test\n"
	}
	return lines
}

// TestWhoHasTheSecretButNotTheSeedChangesNothing attacks a cluster with what
// the cluster secret opens: a peer of its own that is made to believe that it
// belongs to it, and the protocols themselves.
func TestWhoHasTheSecretButNotTheSeedChangesNothing(t *testing.T) {
	t.Parallel()
	all := tasks(t, options{names: three(), standIn: true})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)
	mine, theirs := rawCID(t, "mine"), rawCID(t, "theirs")
	code, body, err := all[0].request(http.MethodPost, "/pins/"+mine)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code, string(body))
	id := all[0].peerID(t)
	victim, err := peer.AddrInfoFromString(fmt.Sprintf("/ip4/127.0.0.1/tcp/%s/p2p/%s", all[0].swarm, id))
	require.NoError(t, err)

	// A fourth process, which trusts everybody and knows where the first one is.
	stranger := tasks(t, options{names: []string{"stranger"}, standIn: true, settings: func(string) map[string]string {
		return map[string]string{"CLUSTER_SEED": "", "CLUSTER_PEERS": "", "CLUSTER_CRDT_TRUSTEDPEERS": "*",
			"CLUSTER_PEERADDRESSES": fmt.Sprintf("/ip4/127.0.0.1/tcp/%s/p2p/%s", all[0].swarm, id)}
	}})[0]
	stranger.start()
	require.Eventually(t, func() bool { return stranger.readiness().Ready }, patience, poll, "%+v", stranger.readiness())
	for _, attack := range []struct{ method, path string }{
		{http.MethodPost, "/pins/" + theirs}, {http.MethodDelete, "/pins/" + mine}, {http.MethodDelete, "/peers/" + id.String()},
	} {
		_, _, err := stranger.request(attack.method, attack.path)
		require.NoError(t, err, "its own API answers; what it says is its own affair")
	}
	require.Eventually(t, func() bool {
		return strings.Contains(all[0].sidecar.output(), "it knows CLUSTER_SECRET, but is not among CLUSTER_PEERS")
	}, patience, poll)

	// The protocols, as often as it takes to get a request through before the
	// connection is cut.
	key, err := hex.DecodeString(secret)
	require.NoError(t, err)
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.PrivateNetwork(key))
	require.NoError(t, err)
	defer h.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	gossip, err := pubsub.NewGossipSub(ctx, h)
	require.NoError(t, err)
	mh, err := multihash.Sum([]byte("ipfs-cluster"), multihash.MD5, -1)
	require.NoError(t, err)
	topic, err := gossip.Join(mh.B58String())
	require.NoError(t, err)
	h.Peerstore().AddAddrs(victim.ID, victim.Addrs, peerstore.PermanentAddrTTL)
	client := rpc.NewClient(h, "/ipfscluster/1.0/rpc")
	pinTheirs, err := api.DecodeCid(theirs)
	require.NoError(t, err)
	pinMine, err := api.DecodeCid(mine)
	require.NoError(t, err)
	for range 20 {
		_ = h.Connect(ctx, *victim)                        // may be cut off already
		_ = topic.Publish(ctx, []byte("a change of mine")) // the same
		for _, call := range []struct {
			method string
			arg    any
			reply  any
		}{
			{"Pin", api.PinCid(pinTheirs), &api.Pin{}},
			{"Unpin", api.PinCid(pinMine), &api.Pin{}},
			{"PeerRemove", all[1].peerID(t), &struct{}{}},
		} {
			require.Error(t, client.CallContext(ctx, victim.ID, "Cluster", call.method, call.arg, call.reply), call.method)
		}
	}

	for _, k := range all {
		pins, err := k.pinset()
		require.NoError(t, err)
		require.Contains(t, pins, mine)
		require.Len(t, pins, 1, k.name)
		require.True(t, k.sees(3, 3), "%+v", k.readiness())
		var peers []struct{ Peername string }
		_, body, err := k.request(http.MethodGet, "/peers")
		require.NoError(t, err)
		for dec := json.NewDecoder(strings.NewReader(string(body))); dec.More(); {
			var one struct{ Peername string }
			require.NoError(t, dec.Decode(&one))
			peers = append(peers, one)
		}
		require.Len(t, peers, 3, "the stranger is no member")
	}
}

// peerID is the sidecar's peer ID as the seed gives it.
func (k *task) peerID(t testing.TB) peer.ID {
	shared, err := identity.NewSeed([]byte(seed))
	require.NoError(t, err)
	id, err := shared.Identity(k.name)
	require.NoError(t, err)
	return id.ID
}
