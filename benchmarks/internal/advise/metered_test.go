package advise

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/metered"
	"github.com/ipfs-aws/ipfs-aws/internal/prices"
)

// What a node counts its dollars with is the price list's. Nothing below datastore/ reads the list itself.
func TestNodesCountWithThePriceList(t *testing.T) {
	for op, name := range map[bucket.Op]string{
		bucket.OpPut: "s3.put", bucket.OpList: "s3.put", bucket.OpGet: "s3.get", bucket.OpHead: "s3.get", bucket.OpCheck: "s3.get",
	} {
		require.InDelta(t, prices.Of(name), metered.Standard[op], 1e-15, "%v", op)
	}
	require.Zero(t, metered.Standard[bucket.OpDelete])
}
