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
	"reflect"
	"slices"
	"sync"
	"syscall"

	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/loader"
	"github.com/ipfs/kubo/repo"
	"github.com/ipfs/kubo/repo/fsrepo"

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
		cfg, err := Parse(m)
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
	ds, err := s3ds.OpenIn(ctx, c.Config, path, tell())
	if err != nil {
		return nil, err
	}
	if err := register(ds); err != nil {
		return nil, errors.Join(fmt.Errorf("s3ds: register metrics: %w", err), ds.Close())
	}
	k := &known{ds, c.Config, path}
	opened.add(k)
	return k, nil
}

// opened holds the stores that are open in this process. A repo may have two, while its blocks move from one to the other, or
// if one stands in front of the other.
var opened stores

type stores struct {
	mu  sync.Mutex
	all []*known
}

func (s *stores) add(k *known) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, k)
}

func (s *stores) remove(k *known) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.DeleteFunc(s.all, func(o *known) bool { return o == k })
}

// Opened returns the store with settings c of the repo in a folder, as repo.Repo's Path names it, if this process has it open. It stays
// the repo's: it must not be closed, and may be closed at any time. Safe for concurrent use.
func Opened(path string, c s3ds.Config) (s3ds.Store, bool) {
	opened.mu.Lock()
	defer opened.mu.Unlock()
	for _, k := range opened.all {
		if k.path == path && reflect.DeepEqual(k.config.DiskSpec(), c.DiskSpec()) {
			return k.Store, true
		}
	}
	return nil, false
}

// known is taken out of the metrics and of what Opened knows when it is
// closed: kubo opens and closes a repo several times in one process (init
// does).
type known struct {
	s3ds.Store
	config s3ds.Config
	path   string
}

func (k *known) Close() error {
	opened.remove(k)
	unregister(k.Store)
	return k.Store.Close()
}
