package cluster

import (
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// former is the folder of the programs of the release before this one.
func former(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../bin/former")
	require.NoError(t, err)
	gate.Long(t, "needs the release before this one")
	require.FileExists(t, filepath.Join(dir, "cluster-aws"), "run `make former` first")
	return dir
}

// A running cluster of the former release is upgraded task by task, each on a blockstore
// of another kind, while content is added and pinned through the others.
func TestAFormerClusterIsUpgradedTaskByTask(t *testing.T) {
	t.Parallel()
	programs := former(t)
	server := s3test.Start(t)
	all := tasks(t, options{names: three(), programs: programs, node: onStores(server.URL, server.NewBucket(t), oneOfEach)})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)

	var mu sync.Mutex
	acknowledged, trees := map[string]bool{}, 0
	add := func(k *task) error {
		mu.Lock()
		trees++
		n := trees
		mu.Unlock()
		// the seed makes every tree another one
		out, _, err := k.add(tree(t, 3+n%5, 0, 300<<10, byte(n)))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		acknowledged[out.Cid] = true
		return nil
	}
	for range 4 {
		for _, k := range all {
			require.NoError(t, add(k))
		}
	}

	for i, k := range all {
		done, refused := make(chan struct{}), atomic.Int64{}
		var others sync.WaitGroup
		for _, other := range all {
			if other == k {
				continue
			}
			others.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						if add(other) != nil {
							refused.Add(1) // what was not acknowledged may be lost
						}
					}
				}
			})
		}
		if i == 1 { // one of them does not end in order
			k.node.kill()
			k.sidecar.kill()
		} else {
			k.sidecar.end(os.Interrupt)
			k.node.end(os.Interrupt)
		}
		k.node.path, k.sidecar.path = binary(t, "ipfs-aws"), binary(t, "cluster-aws")
		k.start()
		awaitAll(t, all)
		close(done)
		others.Wait()
		t.Logf("%s is upgraded: %d trees acknowledged so far, %d adds refused meanwhile", k.name, len(acknowledged), refused.Load())
	}
	require.NoError(t, add(all[0]))
	awaitKept(t, all, maps.Clone(acknowledged))

	for _, k := range all { // and they start again by themselves
		k.node.kill()
		k.sidecar.kill()
		k.start()
	}
	awaitAll(t, all)
	awaitKept(t, all, acknowledged)
	for _, k := range all {
		for cid := range acknowledged {
			blocks, err := k.localBlocks(cid)
			require.NoError(t, err, "%s holds %s", k.name, cid)
			require.Positive(t, blocks)
		}
	}
	t.Logf("%d trees acknowledged, all of them whole on all three", len(acknowledged))
}
