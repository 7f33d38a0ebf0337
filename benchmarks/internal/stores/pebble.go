package stores

import (
	"context"
	"path/filepath"

	ds "github.com/ipfs/go-datastore"
	pebbleds "github.com/ipfs/go-ds-pebble"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

// Pebble on the local disk: the fastest that kubo brings along.
func init() {
	suite.RegisterStore(suite.Store{
		Name: "pebble", Rank: 70, Title: "Pebble, local disk",
		What:  "kubo's pebbleds on the disk of this machine, without sync as kubo has it: a yardstick, not an AWS service",
		Stock: true,
		Spec:  func(*suite.Place) map[string]any { return map[string]any{"type": "pebbleds", "path": "blocks"} },
		DiskSpec: func(spec map[string]any) (map[string]any, error) {
			return map[string]any{"type": "pebbleds", "path": spec["path"]}, nil
		},
		Open: func(_ context.Context, p *suite.Place) (ds.Batching, error) {
			d, err := pebbleds.NewDatastore(filepath.Join(p.Dir, "blocks"))
			return d, err
		},
	})
}
