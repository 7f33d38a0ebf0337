package main

import (
	"fmt"
	"strings"

	"github.com/ipfs/kubo/config"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/plugin/efs"
)

// The blockstores a repo can be made with.
const (
	flatfsBlockstore = "flatfs" // one file per block, writes synced
	efsBlockstore    = "efs"    // the same layout, for a network file system
	s3Blockstore     = "s3"     // blocks in an S3 bucket
)

var blockstores = []string{flatfsBlockstore, efsBlockstore, s3Blockstore}

func checkBlockstore(name string) error {
	for _, b := range blockstores {
		if name == b {
			return nil
		}
	}
	return fmt.Errorf("--blockstore %q is not known: use one of %s", name, strings.Join(blockstores, ", "))
}

// useBlockstore makes the config keep its blocks in the given store, which is
// mounted at /blocks beside kubo's leveldb for everything else.
//
// A bucket and EFS have no size of their own, so the 10 GB that kubo takes for
// a full disk (gc watermark, the cluster's free-space metric) would be wrong:
// both are given 1 PB, where StorageMax still is kubo's default.
func useBlockstore(conf *config.Config, name string, blocks map[string]any) {
	blocks["mountpoint"] = "/blocks"
	conf.Datastore.Spec = map[string]any{
		"type": "mount",
		"mounts": []any{
			blocks,
			map[string]any{
				"mountpoint":  "/",
				"type":        "levelds",
				"path":        "datastore",
				"compression": "none",
			},
		},
	}
	if name != flatfsBlockstore && conf.Datastore.StorageMax == config.DefaultDatastoreConfig().StorageMax {
		conf.Datastore.StorageMax = "1PB"
	}
	// Announcing every block lists the whole bucket at each round (12 LIST in
	// 100 s for 5,150 blocks), announcing pinned ones reads each; roots ask
	// nothing.
	if name == s3Blockstore && conf.Provide.Strategy.IsDefault() {
		conf.Provide.Strategy = config.NewOptionalString("roots")
	}
	// kubo remembers which blocks are there, and passes no put of those on: a
	// block that was found to be damaged could not be healed by adding it again.
	// The index of layout packs answers as fast as that memory.
	if blocks["layout"] == s3ds.LayoutPacks && conf.Datastore.BlockKeyCacheSize.IsDefault() {
		conf.Datastore.BlockKeyCacheSize = *config.NewOptionalInteger(0)
	}
}

// fileSpec is the spec of a store that keeps one file per block. Both kinds
// have one layout and one datastore_spec. flatfs is told to sync: upstream's
// default of false acknowledges blocks that only the page cache holds. efs has
// no other mode.
func fileSpec(name string) map[string]any {
	spec := map[string]any{
		"path":      "blocks",
		"shardFunc": "/repo/flatfs/shard/v1/next-to-last/2",
	}
	if name == efsBlockstore {
		spec["type"] = efs.TypeName
	} else {
		spec["type"], spec["sync"] = "flatfs", true
	}
	return spec
}
