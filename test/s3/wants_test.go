package s3bill

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	pb "github.com/ipfs/boxo/bitswap/message/pb"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

// wantsPerMessage is below the 1,024 wants that kubo keeps per peer.
const wantsPerMessage = 1000

// wantAbsent sends wants for blocks that nobody has over bitswap, and waits for
// as many answers that say so.
func wantAbsent(t *testing.T, addr string, wants int) {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs)
	require.NoError(t, err)
	defer func() { _ = h.Close() }()
	info, err := peer.AddrInfoFromString(addr)
	require.NoError(t, err)
	require.NoError(t, h.Connect(t.Context(), *info))
	net := bsnet.NewFromIpfsHost(h)
	seen := &absences{}
	net.Start(seen)
	defer net.Stop()
	for sent := 0; sent < wants; {
		msg := bsmsg.New(true) // takes the place of the wants before
		for range min(wantsPerMessage, wants-sent) {
			var b [8]byte
			binary.BigEndian.PutUint64(b[:], uint64(sent))
			sum, err := mh.Sum(append([]byte("nobody has this"), b[:]...), mh.SHA2_256, -1)
			require.NoError(t, err)
			msg.AddEntry(cid.NewCidV1(cid.Raw, sum), 1, pb.Message_Wantlist_Have, true)
			sent++
		}
		require.NoError(t, net.SendMessage(t.Context(), info.ID, msg))
		require.Eventually(t, func() bool { return seen.n.Load() >= int64(sent) }, testnode.Patience, time.Millisecond, "%d of %d wants were answered", seen.n.Load(), sent)
	}
}

// absences counts answers that say that a block is not there.
type absences struct{ n atomic.Int64 }

func (a *absences) ReceiveMessage(_ context.Context, _ peer.ID, m bsmsg.BitSwapMessage) {
	a.n.Add(int64(len(m.DontHaves())))
}
func (*absences) ReceiveError(error)       {}
func (*absences) PeerConnected(peer.ID)    {}
func (*absences) PeerDisconnected(peer.ID) {}
