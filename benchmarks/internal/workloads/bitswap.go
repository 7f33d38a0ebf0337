package workloads

import (
	"context"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

// serveWorkers is how many wants boxo's bitswap server looks up at once.
const serveWorkers = 128

func init() {
	suite.RegisterWorkload(suite.Workload{
		Name: "bitswap", Rank: 36, Kind: suite.Serve, Title: "serve a peer by bitswap",
		What: "a peer fetches the large file, from cold; at level datastore, a GetSize and a Get for each block, 128 at a time as bitswap's workers",
		Datastore: func(r *suite.Run) error {
			b, err := fileBlocks(r)
			if err != nil {
				return err
			}
			if err := r.Cold(); err != nil {
				return err
			}
			return r.Measure(func(rec *suite.Recorder) error {
				return suite.Parallel(r.Context, serveWorkers, len(b), func(i int) error {
					return rec.Op(func() (int64, error) {
						if _, err := r.DS.GetSize(r.Context, b[i].Key); err != nil {
							return 0, err
						}
						return getOne(r.Context, r.DS, b[i])
					})
				})
			})
		},
		Kubo: func(r *suite.Run) error {
			root, err := fileRoot(r)
			if err != nil {
				return err
			}
			at, err := cid.Decode(root)
			if err != nil {
				return err
			}
			if err := r.Cold(); err != nil {
				return err
			}
			h, err := libp2p.New(libp2p.NoListenAddrs)
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }()
			ctx, cancel := context.WithCancel(r.Context)
			defer cancel()
			mine := blockstore.NewBlockstore(dssync.MutexWrap(ds.NewMapDatastore()))
			exchange := bitswap.New(ctx, bsnet.NewFromIpfsHost(h), nil, mine)
			defer func() { _ = exchange.Close() }()
			dag := merkledag.NewDAGService(blockservice.New(mine, exchange))
			if _, err := dialUp(r, h); err != nil {
				return err
			}
			return r.Measure(func(rec *suite.Recorder) error {
				began := time.Now()
				if err := merkledag.FetchGraph(ctx, at, dag); err != nil {
					return err
				}
				rec.Took(time.Since(began), r.Sizes.FileBytes)
				return nil
			})
		},
	})
}

// dialUp connects a peer of ours to the node.
func dialUp(r *suite.Run, h host.Host) (peer.ID, error) {
	addr, err := r.Node.Address(r.Context)
	if err != nil {
		return "", err
	}
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return "", err
	}
	return info.ID, h.Connect(r.Context, *info)
}
