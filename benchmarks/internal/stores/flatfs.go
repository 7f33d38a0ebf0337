package stores

import (
	"context"
	"maps"
	"os"
	"path/filepath"

	ds "github.com/ipfs/go-datastore"
	flatfs "github.com/ipfs/go-ds-flatfs"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
	"github.com/ipfs-aws/ipfs-aws/datastore/efs"
)

// flatfs is what kubo does by itself: on a disk, and, as the AWS reference has it, on EFS.
func init() {
	stock := suite.Store{
		Stock: true,
		Spec: func(*suite.Place) map[string]any {
			return map[string]any{"type": "flatfs", "path": "blocks", "sync": true, "shardFunc": efs.DefaultShardFunc}
		},
		DiskSpec: flatfsDiskSpec,
		Open: func(_ context.Context, p *suite.Place) (ds.Batching, error) {
			fun, err := flatfs.ParseShardFunc(efs.DefaultShardFunc)
			if err != nil {
				return nil, err
			}
			path := filepath.Join(p.Dir, "blocks")
			if _, err := os.Stat(path); err == nil {
				return flatfs.Open(path, true)
			}
			return flatfs.CreateOrOpen(path, fun, true)
		},
	}
	disk := stock
	disk.Name, disk.Rank, disk.Title = "flatfs", 10, "flatfs, local disk"
	disk.What = "kubo's default, one file per block with sync: true, on the disk of this machine: a yardstick, not an AWS service"
	suite.RegisterStore(disk)

	onEFS := stock
	onEFS.Name, onEFS.Rank, onEFS.Title = "flatfs-efs", 20, "flatfs on EFS"
	onEFS.What = "kubo's default on EFS One Zone with Elastic throughput: what the AWS reference deployment runs"
	onEFS.EFS = &suite.EFS{Profile: efsmodel.OneZone, Throughput: efsmodel.Throughput{Mode: "elastic"}}
	suite.RegisterStore(onEFS)
}

// flatfsDiskSpec is the identity of flatfs, and of efs, which keeps to it.
func flatfsDiskSpec(spec map[string]any) (map[string]any, error) {
	disk := maps.Clone(spec)
	for name := range disk {
		if name != "path" && name != "shardFunc" {
			delete(disk, name)
		}
	}
	disk["type"] = "flatfs"
	return disk, nil
}
