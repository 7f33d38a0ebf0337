// Package tiered lets kubo use one datastore in front of another: the datastore type
// "tiered". New blocks go to the hot one; what is not there is read from the cold one.
//
// It takes the place of the store at /blocks in Datastore.Spec. Here a file system
// answers for what was written lately, and a bucket for what was there before:
//
//	{
//	  "mountpoint": "/blocks",
//	  "type": "tiered",
//	  "hot": {"type": "efsds", "path": "/mnt/efs/blocks", "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2"},
//	  "cold": {"type": "s3ds", "layout": "packs", "region": "eu-west-1", "bucket": "my-blocks", "rootDirectory": "node-1"},
//	  "promote": true
//	}
//
// hot and cold are stores of any type that kubo knows. With promote, which is false by
// default, a block that was read from the cold store is written to the hot one as well.
//
// What it says it is on disk (datastore_spec) is both of them, so that a repo is never
// opened with one of the two missing, or the two the other way round.
package tiered
