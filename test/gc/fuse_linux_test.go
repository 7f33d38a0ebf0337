package gc

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

// #3: what is written, and renamed, through a mount of MFS stays, with collections in a loop that know no age.
func TestFUSEDuringCollections(t *testing.T) {
	n := fresh(t, stormProgram(t), []string{"--blockstore", "flatfs"}, "IPFS_GC_MIN_AGE=0s", "IPFS_CONFIG_Internal_ShutdownTimeout=20s")
	n.Start()
	c := within(t, n, testnode.Patience)
	dirs := map[string]string{}
	for _, name := range []string{"ipfs", "ipns", "mfs"} {
		dirs[name] = filepath.Join(t.TempDir(), name)
		require.NoError(t, os.Mkdir(dirs[name], 0o700))
	}
	if _, err := c.call("mount", "ipfs-path", dirs["ipfs"], "ipns-path", dirs["ipns"], "mfs-path", dirs["mfs"]); err != nil {
		n.Stop()
		gate.Missing(t, gate.FUSE, err.Error())
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	collections := 0
	wg.Go(func() {
		for ctx.Err() == nil {
			_, err := c.call("repo/gc")
			assert.NoError(t, err)
			collections++
		}
	})
	want := map[string][]byte{}
	for i := range 60 {
		f := randomFile(t, uint64(i))
		name := fmt.Sprintf("f%d", i)
		require.NoError(t, os.WriteFile(filepath.Join(dirs["mfs"], name), f.data, 0o600))
		want[name] = f.data
		if old := fmt.Sprintf("f%d", i-10); i >= 10 && i%2 == 0 {
			require.NoError(t, os.Rename(filepath.Join(dirs["mfs"], old), filepath.Join(dirs["mfs"], "r"+old)))
			want["r"+old] = want[old]
			delete(want, old)
		}
	}
	stop()
	wg.Wait()
	_, err := c.call("files/flush", "arg", "/")
	require.NoError(t, err)
	_, err = c.call("repo/gc")
	require.NoError(t, err)
	n.Stop()
	n.Start()
	c = within(t, n, testnode.Patience)
	for name, data := range want {
		b, err := c.call("files/read", "arg", "/"+name, "offline", "true")
		require.NoError(t, err, name)
		require.Equal(t, data, b, name)
	}
	t.Logf("%d files, %d collections", len(want), collections)
	n.Stop()
}
