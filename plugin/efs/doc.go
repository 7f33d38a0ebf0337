// Package efs lets kubo use the efs blockstore: the datastore type "efsds".
//
// It takes the place of flatfs at /blocks in Datastore.Spec:
//
//	{
//	  "mountpoint": "/blocks",
//	  "prefix": "efs.datastore",
//	  "type": "measure",
//	  "child": {
//	    "type": "efsds",
//	    "path": "blocks",
//	    "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2",
//	    "workers": 64,
//	    "indexPath": "/var/lib/ipfs/efs.index",
//	    "cachePath": "/var/cache/ipfs",
//	    "cacheSize": "10GiB"
//	  }
//	}
//
// Only path and shardFunc are required. A relative path is taken from the repo,
// as flatfs takes it. The settings sync and prefix of flatfs may stay; efs always
// syncs. Sizes are bytes, or a number with a unit.
//
// What the store says it is on disk (the file datastore_spec) is flatfs, word
// for word, so a repo may go from one to the other and back by a change of type
// in the config alone.
package efs
