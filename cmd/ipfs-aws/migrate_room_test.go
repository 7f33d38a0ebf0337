package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/migrate"
)

// What does not fit is refused before it is copied, naming what needs how much where.
func TestRoom(t *testing.T) {
	was := diskFree
	t.Cleanup(func() { diskFree = was })
	free := map[string]int64{}
	diskFree = func(path string) (int64, bool) { n, known := free[path]; return n, known }
	m := &migration{root: "/repo", path: "/backup"}
	files := map[string]any{"type": "efsds", "path": "/mnt/efs/blocks"}
	bucket := map[string]any{"type": "s3ds", "layout": "packs", "bucket": "blocks", "region": "us-east-1"}
	rep := migrate.Report{Blocks: 1000, Bytes: 10 << 30, Before: 400, BeforeBytes: 2 << 30}

	require.NoError(t, m.room(files, rep), "where nobody knows how much is free")
	free["/mnt/efs/blocks"] = 8 << 30
	require.ErrorContains(t, m.room(files, rep), "not enough disk: the blocks in /mnt/efs/blocks may take 8.1 GiB, and 8.0 GiB are free: make room, nothing was copied")
	free["/mnt/efs/blocks"] = 9 << 30
	require.NoError(t, m.room(files, rep), "what is there already need not fit again")

	free["/repo/s3ds/journal"] = 1 << 30
	require.ErrorContains(t, m.room(bucket, rep), "the journal in /repo/s3ds/journal may take 1.1 GiB")
	free["/repo/s3ds/journal"] = 2 << 30
	require.NoError(t, m.room(bucket, rep), "of the blocks no more than the journal holds are on the disk at a time")

	free["/backup"] = 1 << 30
	require.ErrorContains(t, m.room(nil, rep), "the CAR files in /backup may take 8.1 GiB")
	free["/repo"] = 1 << 20
	require.ErrorContains(t, m.room(files, rep), "the ledger in /repo")
}
