package efs

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDefaults(t *testing.T) {
	c, _, err := Config{Path: "/mnt/blocks/"}.complete()
	require.NoError(t, err)
	require.Equal(t, Config{
		Path: "/mnt/blocks", ShardFunc: DefaultShardFunc, Workers: DefaultWorkers,
		IndexPath: filepath.Join("/mnt/blocks", IndexFile),
	}, c)
}

func TestValidateNamesEverythingThatIsWrong(t *testing.T) {
	err := Config{
		ShardFunc: "/repo/flatfs/shard/v1/prefix/0", Workers: -1, IndexPath: "/cache/index",
		CachePath: "/cache", CacheBytes: 1,
	}.Validate()
	for _, setting := range []string{"path", "shardFunc", "workers", "indexPath", "cacheSize"} {
		require.ErrorContains(t, err, `setting "`+setting+`"`)
	}
	for _, bad := range []Config{
		{Path: "/b", CachePath: "/b/c", CacheBytes: 1 << 30},
		{Path: "/b/c", CachePath: "/b", CacheBytes: 1 << 30},
		{Path: "/b", CacheBytes: 1 << 30},
		{Path: "/b", CachePath: "/c"},
		{Path: "/b", IndexPath: "/b/AA/index"},
		{Path: "/b", ShardFunc: "/repo/flatfs/shard/v2/prefix/2"},
		{Path: "/b", ShardFunc: "/repo/flatfs/shard/v1/middle/2"},
		{Path: "/b", ShardFunc: "prefix/2"},
	} {
		require.Error(t, bad.Validate(), "%+v", bad)
	}
	require.NoError(t, Config{Path: "/b", CachePath: "/bc", CacheBytes: minCacheBytes, IndexPath: "/b.index"}.Validate())
}
