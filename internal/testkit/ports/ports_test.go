package ports

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

const otherVariable = "PORTS_TEST_OTHER"

// TestOther takes ports in a process of its own.
func TestOther(t *testing.T) {
	first := os.Getenv(otherVariable)
	if first == "" {
		return
	}
	from, err := strconv.Atoi(first)
	require.NoError(t, err)
	mu.Lock()
	next = (from - lowest) / step // where the other process is
	mu.Unlock()
	t.Logf("other=%d", TakeBlock(t))
}

func TestABlockIsOneTestsOwn(t *testing.T) {
	first := TakeBlock(t)
	again := TakeBlock(t)
	require.NotEqual(t, first, again)
	cmd := proc.Command(os.Args[0], "-test.run=^TestOther$", "-test.v")
	cmd.Env = append(os.Environ(), otherVariable+"="+strconv.Itoa(first))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "other=")
	require.NotContains(t, string(out), "other="+strconv.Itoa(first)+"\n")
	require.NotContains(t, string(out), "other="+strconv.Itoa(again)+"\n")
}

func TestABlockComesBack(t *testing.T) {
	var first int
	t.Run("taken", func(t *testing.T) { first = TakeBlock(t) })
	mu.Lock()
	next = (first - lowest) / step
	mu.Unlock()
	require.Equal(t, first, TakeBlock(t))
}

func TestPortsAreFreeAndDistinct(t *testing.T) {
	seen := map[string]bool{}
	for range 2*Block + 1 {
		addr := Address(t)
		require.False(t, seen[addr], addr)
		seen[addr] = true
		_, err := net.Dial("tcp", addr)
		require.ErrorContains(t, err, "refused")
		l, err := net.Listen("tcp", addr)
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
}

// The range that Linux gives ports from begins behind ours.
func TestTheSystemGivesOtherPorts(t *testing.T) {
	raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Log("no Linux")
		return
	}
	low, err := strconv.Atoi(strings.Fields(string(raw))[0])
	require.NoError(t, err)
	require.Less(t, lowest+blocks*step-1, low, "ip_local_port_range begins at %d: ports of tests may be taken by other programs", low)
}
