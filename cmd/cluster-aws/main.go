package main

import (
	_ "github.com/ipfs-cluster/ipfs-cluster"
	_ "github.com/ipfs-cluster/ipfs-cluster/allocator/balanced"
	_ "github.com/ipfs-cluster/ipfs-cluster/api/pinsvcapi"
	_ "github.com/ipfs-cluster/ipfs-cluster/api/rest"
	_ "github.com/ipfs-cluster/ipfs-cluster/cmdutils"
	_ "github.com/ipfs-cluster/ipfs-cluster/consensus/crdt"
	_ "github.com/ipfs-cluster/ipfs-cluster/datastore/pebble"
	_ "github.com/ipfs-cluster/ipfs-cluster/informer/disk"
	_ "github.com/ipfs-cluster/ipfs-cluster/ipfsconn/ipfshttp"
	_ "github.com/ipfs-cluster/ipfs-cluster/monitor/pubsubmon"
	_ "github.com/ipfs-cluster/ipfs-cluster/pintracker/stateless"
)

func main() {}
