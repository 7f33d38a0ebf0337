package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
)

// profile is where a run's settings begin.
type profile struct {
	name, what string
	samples    int
	dilation   float64
	stores     []string
	workloads  []string
	levels     []string // nil: both
	sizes      record.Sizes
}

// profiles are all profiles. Their sizes are such that a run takes, on two cores: seconds for smoke, under 15 minutes for short, hours for full.
var profiles = []profile{
	{
		name: "short", what: "what `make bench` runs: six stores, small sizes, under 15 minutes on two cores",
		samples: 5, dilation: 2,
		stores:    []string{"flatfs-efs", "efs-onezone-elastic", "go-ds-s3", "s3-packs", "tiered", "pebble"},
		workloads: []string{"all"},
		sizes: record.Sizes{
			FileBytes: 8 << 20, TreeFiles: 16, GatewayFiles: 100, GatewayRequests: 12, GatewayClients: 64, Ranges: 4, Blocks: 16,
			WantsPerSecond: 500, WantsSeconds: 0.5, GarbageBlocks: 20, IdleSeconds: 1, SealSeconds: 1,
		},
	},
	{
		name: "full", what: "every store with the full sizes: a night",
		samples: 5, dilation: 4,
		stores: []string{"all"}, workloads: []string{"all"},
		sizes: record.Sizes{
			FileBytes: 256 << 20, TreeFiles: 2000, GatewayFiles: 10_000, GatewayRequests: 1000, GatewayClients: 512, Ranges: 50, Blocks: 500,
			WantsPerSecond: 500, WantsSeconds: 20, GarbageBlocks: 933, IdleSeconds: 60, SealSeconds: 20, Compaction: true,
		},
	},
	{
		name: "reference", what: "what benchmarks/results/reference was made with: twelve stores, a file of a whole pack, 40 minutes",
		samples: 5, dilation: 2,
		stores: []string{
			"flatfs-efs", "efs-onezone-elastic", "efs-onezone-provisioned", "efs-onezone-bursting", "efs-regional-elastic",
			"go-ds-s3", "s3-objects", "s3-packs", "s3-packs-warm", "s3-packs-express", "tiered", "pebble",
		},
		workloads: []string{"all"},
		sizes: record.Sizes{
			FileBytes: 32 << 20, TreeFiles: 50, GatewayFiles: 200, GatewayRequests: 20, GatewayClients: 64, Ranges: 8, Blocks: 32,
			WantsPerSecond: 500, WantsSeconds: 0.5, GarbageBlocks: 50, IdleSeconds: 1, SealSeconds: 2,
		},
	},
	{
		name: "smoke", what: "every store and workload once, at toy sizes, several at a time: whether it works, not how fast",
		samples: 1, dilation: 0.02,
		stores: []string{"all"}, workloads: []string{"all"},
		sizes: record.Sizes{
			FileBytes: 1 << 20, TreeFiles: 4, GatewayFiles: 6, GatewayRequests: 4, GatewayClients: 2, Ranges: 2, Blocks: 3,
			WantsPerSecond: 500, WantsSeconds: 0.2, GarbageBlocks: 4, IdleSeconds: 0.05, SealSeconds: 0.2,
		},
	},
}

func findProfile(name string) (profile, error) {
	var names []string
	for _, p := range profiles {
		if p.name == name {
			return p, nil
		}
		names = append(names, p.name)
	}
	return profile{}, fmt.Errorf("profile %q is not known: use one of %s", name, strings.Join(names, ", "))
}

// scaled multiplies sizes. What has a least size keeps it: a file of one chunk, one of everything that is counted. Rates, clients and
// sealAge are no sizes.
func scaled(z record.Sizes, by float64) record.Sizes {
	count := func(n *int) { *n = max(1, int(math.Round(float64(*n)*by))) }
	for _, n := range []*int{&z.TreeFiles, &z.GatewayFiles, &z.GatewayRequests, &z.Ranges, &z.Blocks, &z.GarbageBlocks} {
		count(n)
	}
	const least = 1 << 20
	z.FileBytes = max(least, int64(float64(z.FileBytes)*by)/least*least)
	z.WantsSeconds *= by
	z.IdleSeconds *= by
	return z
}
