package suite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
)

// What the kernel says of three mounts, as nfs(5) and the kernel's fs/nfs/super.c
// have it; figures are ours.
const threeMounts = `device rootfs mounted on / with fstype rootfs
device fs-1.efs.us-east-1.amazonaws.com:/ mounted on /mnt/efs with fstype nfs4 statvers=1.1
	opts:	rw,vers=4.1,rsize=1048576,wsize=1048576,hard
	age:	321
	bytes:	11 22 0 0 33 44 1 1
	RPC iostats version: 1.1  p/v: 100003/4 (nfs)
	xprt:	tcp 0 0 2 0 0 50 50 0 60 0 2 0 0
	per-op statistics
	        NULL: 1 1 0 44 24 0 0 0 0
	        READ: 3 3 0 600 3000000 10 20 30 0
	       WRITE: 4 5 0 4100000 700 10 20 30 0
	        OPEN: 7 7 0 2100 2800 0 5 5 0
	 OPEN_NOATTR: 2 2 0 600 800 0 1 1 0
	       CLOSE: 9 9 0 2200 1600 0 2 2 0
	     GETATTR: 5 5 0 1000 1200 0 3 3 0
	      ACCESS: 6 6 0 1000 1000 0 3 3 0
	      RENAME: 8 8 0 3000 1200 0 8 8 0

device fs-1.efs.us-east-1.amazonaws.com:/ mounted on /mnt/efs/deep with fstype nfs4 statvers=1.1
	per-op statistics
	        READ: 100 100 0 600 3000000 10 20 30 0
`

func TestMountstatsCountWhatTheClientSent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mountstats")
	require.NoError(t, os.WriteFile(file, []byte(threeMounts), 0o600))

	for path, want := range map[string]string{
		"/mnt/efs": "/mnt/efs", "/mnt/efs/bench/x": "/mnt/efs", "/mnt/efs/deep/x": "/mnt/efs/deep", "/mnt/efsother": "", "/srv": "",
	} {
		got, err := findMountstats(file, path)
		require.NoError(t, err)
		if want == "" {
			require.Nil(t, got, path)
			continue
		}
		require.Equal(t, want, got.mount, path)
	}

	e, err := (&mountstats{file, "/mnt/efs"}).read()
	require.NoError(t, err)
	require.Equal(t, map[efsmodel.Kind]int64{
		efsmodel.Read: 3, efsmodel.Write: 4, efsmodel.Open: 7 + 2, efsmodel.Close: 9, efsmodel.Getattr: 5 + 6, efsmodel.Rename: 8,
	}, e.Requests)
	require.EqualValues(t, 3000000, e.BytesRead)
	require.EqualValues(t, 4100000, e.BytesWritten)
	require.GreaterOrEqual(t, e.MeteredRead, e.BytesRead)
	require.GreaterOrEqual(t, e.MeteredWritten, e.BytesWritten)

	require.NoError(t, os.WriteFile(file, []byte("device a:/ mounted on /m with fstype nfs4\n READ: 1 x 0 1 1\n"), 0o600))
	_, err = (&mountstats{file, "/m"}).read()
	require.ErrorContains(t, err, "/m")
	_, err = (&mountstats{file + "-none", "/m"}).read()
	require.ErrorContains(t, err, "count the requests of /m")
}
