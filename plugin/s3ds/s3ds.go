// Package s3ds is the kubo plugin for the datastore type "s3ds": blocks in an
// S3 bucket. It takes the place of go-ds-s3's plugin under the same type name
// and settings; the work is done by datastore/s3ds.
//
// A repo uses it with this entry in Datastore.Spec's mounts, which `ipfs-aws
// init --blockstore s3` writes:
//
//	{"mountpoint": "/blocks", "type": "s3ds", "layout": "packs", "region": "eu-west-1", "bucket": "my-blocks", "rootDirectory": "node-1"}
package s3ds

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"sync"
	"syscall"

	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/loader"
	"github.com/ipfs/kubo/repo"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/internal/version"
)

func init() { loader.Preload(datastorePlugin{}) }

type datastorePlugin struct{}

var _ plugin.PluginDatastore = datastorePlugin{}

func (datastorePlugin) Name() string                   { return "s3ds" }
func (datastorePlugin) Version() string                { return version.Version }
func (datastorePlugin) Init(*plugin.Environment) error { return nil }
func (datastorePlugin) DatastoreTypeName() string      { return s3ds.Type }

func (datastorePlugin) DatastoreConfigParser() fsrepo.ConfigFromMap {
	return func(m map[string]any) (fsrepo.DatastoreConfig, error) {
		cfg, err := s3ds.ParseConfig(m)
		if err != nil {
			return nil, fmt.Errorf("config Datastore.Spec: %w", err)
		}
		return diskConfig{cfg}, nil
	}
}

type diskConfig struct{ s3ds.Config }

// DiskSpec is what kubo compares with the repo's datastore_spec: the identity
// of the store, no credentials and no tuning.
func (c diskConfig) DiskSpec() fsrepo.DiskSpec { return c.Config.DiskSpec() }

// Create opens the store and adds its counters to the process's metrics. path is
// the repo's folder, under which layout packs keeps its journal, index and
// cache. kubo gives no context here: opening is bounded by the timeouts of the
// settings, and where the index has to be made anew, which takes long in a
// large bucket, by the signals that end the process. The next start goes on.
func (c diskConfig) Create(path string) (repo.Datastore, error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ds, err := c.open(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := prometheus.Register(ds); err != nil {
		return nil, errors.Join(fmt.Errorf("s3ds: register metrics: %w", err), ds.Close())
	}
	opened.Store(path, ds)
	return known{ds, path}, nil
}

func (c diskConfig) open(ctx context.Context, path string) (s3ds.Store, error) {
	if c.Layout != s3ds.LayoutPacks {
		return s3ds.OpenIn(ctx, c.Config, path)
	}
	// Not directly: a nil *Packed would become a Store that is not nil.
	ds, err := s3ds.OpenPacked(ctx, c.Config, path, tell())
	if err != nil {
		return nil, err
	}
	return ds, nil
}

// opened holds the stores that are open in this process, by the folder of
// their repo.
var opened sync.Map

// Opened returns the store of the repo in a folder, as repo.Repo's Path names
// it, if this process has it open. It stays the repo's: it must not be closed,
// and may be closed at any time. Safe for concurrent use.
func Opened(path string) (s3ds.Store, bool) {
	ds, ok := opened.Load(path)
	if !ok {
		return nil, false
	}
	return ds.(s3ds.Store), true
}

// known is taken out of the metrics and of what Opened knows when it is
// closed: kubo opens and closes a repo several times in one process (init
// does).
type known struct {
	s3ds.Store
	path string
}

func (k known) Close() error {
	opened.CompareAndDelete(k.path, k.Store)
	prometheus.Unregister(k.Store)
	return k.Store.Close()
}
