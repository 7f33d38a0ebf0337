package recorded_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/buckettest"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/recorded"
)

func TestTransparent(t *testing.T) {
	buckettest.Run(t, func(*testing.T) bucket.Bucket { return recorded.Wrap(mem.New(), &recorded.Log{}) })
}

func TestLog(t *testing.T) {
	log := &recorded.Log{}
	f := faulty.Wrap(mem.New())
	b := recorded.Wrap(f, log)
	log.Section("writes, at the same time")
	var wg sync.WaitGroup
	for _, k := range []string{"c", "a", "b"} {
		wg.Go(func() {
			if err := b.Put(t.Context(), k, strings.NewReader("0123456789")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	log.Section("nothing")
	log.Section("reads")
	buckettest.Read(t, b, "a", bucket.Range{})
	buckettest.Read(t, b, "a", bucket.Range{Offset: 2, Length: 3})
	_, err := b.Head(t.Context(), "absent")
	require.ErrorIs(t, err, bucket.ErrNotFound)
	for range b.List(t.Context(), "", "a") {
		break
	}
	log.Section("ends")
	require.NoError(t, b.Delete(t.Context(), "a"))
	require.NoError(t, b.Delete(t.Context(), "b", "c"))
	f.Set(faulty.Rule{Err: errors.New("no")})
	require.Error(t, b.Check(t.Context()))
	require.Equal(t, `# writes, at the same time
put a: ok
put b: ok
put c: ok

# nothing
(nothing)

# reads
get a 2+3: ok
get a: ok
head absent: miss
list "" after "a": 1 results, ok

# ends
check: failed
delete 2 keys: ok
delete a: ok
`, log.String())
}
