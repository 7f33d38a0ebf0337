package add

import (
	"context"
	"fmt"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/api"

	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
)

// Connector is ipfs-cluster's connection to its IPFS node, with adds that are
// stored many blocks at a time.
type Connector struct {
	ipfscluster.IPFSConnector
	node *kubo.Client
}

// Connect returns inner with its BlockStream replaced.
func Connect(inner ipfscluster.IPFSConnector, node *kubo.Client) *Connector {
	return &Connector{IPFSConnector: inner, node: node}
}

// BlockStream stores the blocks on the node until the channel is closed. They
// are stored when it returns nil.
func (c *Connector) BlockStream(ctx context.Context, blocks <-chan api.NodeWithMeta) error {
	_, err := c.node.Import(ctx, take(ctx, blocks))
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		// The sender goes on until it hears of the error.
		go func() {
			for range blocks {
			}
		}()
		return fmt.Errorf("store the blocks of an add: %w", err)
	}
	return nil
}
