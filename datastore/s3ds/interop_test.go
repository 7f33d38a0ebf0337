package s3ds

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	theirs "github.com/ipfs/go-ds-s3"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

var roots = []string{"", "root", "a/deep/root", "/slashes/"}

// TestInteropWithGoDsS3: what go-ds-s3 0.11 wrote is ours to read, list and remove, and the other way round.
func TestInteropWithGoDsS3(t *testing.T) {
	server := s3test.Start(t)
	for _, root := range roots {
		t.Run("root "+root, func(t *testing.T) {
			c := config(server.URL, server.NewBucket(t))
			c.RootDirectory = root
			ours := open(t, c)
			other, err := theirs.NewS3Datastore(theirs.Config{
				AccessKey: c.AccessKey, SecretKey: string(c.SecretKey), Bucket: c.Bucket, Region: c.Region, RegionEndpoint: c.RegionEndpoint, RootDirectory: root,
			})
			require.NoError(t, err)

			var want []string
			for i := range 10 {
				key, data := block(t, []byte(fmt.Sprint("block ", i)), mh.SHA2_256)
				from, to := ds.Datastore(ours), ds.Datastore(other)
				if i%2 == 0 {
					from, to = to, from
				}
				require.NoError(t, from.Put(t.Context(), key, data))
				got, err := to.Get(t.Context(), key)
				require.NoError(t, err)
				require.Equal(t, data, got)
				size, err := to.GetSize(t.Context(), key)
				require.NoError(t, err)
				require.Equal(t, len(data), size)
				want = append(want, key.String())
			}
			batch, err := other.Batch(t.Context())
			require.NoError(t, err)
			for i := range 5 {
				key, data := block(t, []byte(fmt.Sprint("in a batch ", i)), mh.SHA2_256)
				require.NoError(t, batch.Put(t.Context(), key, data))
				want = append(want, key.String())
			}
			require.NoError(t, batch.Commit(t.Context()))
			require.ElementsMatch(t, want, queryKeys(t, ours, query.Query{}))

			for i, key := range want {
				if i%2 == 0 {
					require.NoError(t, ours.Delete(t.Context(), ds.RawKey(key)))
				} else {
					require.NoError(t, other.Delete(t.Context(), ds.RawKey(key)))
				}
				for _, d := range []ds.Datastore{ours, other} {
					_, err := d.Get(t.Context(), ds.RawKey(key))
					require.True(t, errors.Is(err, ds.ErrNotFound), "%v", err)
				}
			}
			require.Empty(t, queryKeys(t, ours, query.Query{}))
		})
	}
}

// TestDiskSpecIsThatOfGoDsS3: kubo compares it, as JSON, with what it wrote when the repo was made. The expected text is what the
// plugin of go-ds-s3 0.11 yields, whose import would bring all of kubo along.
func TestDiskSpecIsThatOfGoDsS3(t *testing.T) {
	for _, root := range roots {
		c, err := ParseConfig(map[string]any{"type": "s3ds", "region": "us-east-1", "bucket": "my-blocks", "rootDirectory": root,
			"accessKey": "a", "secretKey": "s", "workers": 8.0, "regionEndpoint": "http://127.0.0.1:7070"})
		require.NoError(t, err)
		spec, err := json.Marshal(c.DiskSpec())
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf(`{"bucket":"my-blocks","region":"us-east-1","rootDirectory":%q}`, root), string(spec))
	}
}
