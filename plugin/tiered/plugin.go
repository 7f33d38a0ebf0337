package tiered

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/loader"
	"github.com/ipfs/kubo/repo"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ipfs-aws/ipfs-aws/datastore/tiered"
	"github.com/ipfs-aws/ipfs-aws/internal/version"
)

// TypeName is the datastore's type in kubo's Datastore.Spec.
const TypeName = "tiered"

func init() { loader.Preload(datastorePlugin{}) }

type datastorePlugin struct{}

var _ plugin.PluginDatastore = datastorePlugin{}

func (datastorePlugin) Name() string                   { return "ipfs-aws-tiered" }
func (datastorePlugin) Version() string                { return version.Version }
func (datastorePlugin) Init(*plugin.Environment) error { return nil }
func (datastorePlugin) DatastoreTypeName() string      { return TypeName }

// DatastoreConfigParser validates the settings, and names everything that is wrong with them at once.
func (datastorePlugin) DatastoreConfigParser() fsrepo.ConfigFromMap {
	return func(params map[string]any) (fsrepo.DatastoreConfig, error) { return parse(params) }
}

// settings are the keys that may stand beside each other in the config; mountpoint is kubo's own.
var settings = []string{"type", "mountpoint", "hot", "cold", "promote"}

type config struct {
	hot, cold fsrepo.DatastoreConfig
	promote   bool
}

func parse(params map[string]any) (*config, error) {
	var c config
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("tiered: "+format, args...)) }
	for key := range params {
		if !slices.Contains(settings, key) {
			bad("setting %q is not known; known are %s", key, strings.Join(settings, ", "))
		}
	}
	children := map[string]map[string]any{}
	for name, to := range map[string]*fsrepo.DatastoreConfig{"hot": &c.hot, "cold": &c.cold} {
		child, ok := params[name].(map[string]any)
		if !ok {
			bad("setting %q must be the spec of a store, an object with a type", name)
			continue
		}
		parsed, err := fsrepo.AnyDatastoreConfig(child)
		if err != nil {
			bad("setting %q: %w", name, err)
			continue
		}
		*to, children[name] = parsed, child
	}
	if v, set := params["promote"]; set {
		var ok bool
		if c.promote, ok = v.(bool); !ok {
			bad("setting %q is %v; it must be true or false", "promote", v)
		}
	}
	if c.hot != nil && c.cold != nil {
		if spec := c.hot.DiskSpec(); spec != nil && reflect.DeepEqual(spec, c.cold.DiskSpec()) {
			bad("hot and cold are the same store: each needs a place of its own")
		}
		if path := sharedPath(children["hot"], children["cold"]); path != "" {
			bad("hot and cold both keep files in %q: give one of them a journalPath, indexPath and cachePath of its own", path)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &c, nil
}

// sharedPath is a folder that two stores in S3 would both use; "" if there is none.
func sharedPath(hot, cold map[string]any) string {
	hot, cold = innermost(hot), innermost(cold)
	if hot["type"] != "s3ds" || cold["type"] != "s3ds" {
		return ""
	}
	for key, usual := range map[string]string{"journalPath": "s3ds/journal", "indexPath": "s3ds/index", "cachePath": "s3ds/cache"} {
		at := func(spec map[string]any) string {
			if s, _ := spec[key].(string); s != "" {
				return filepath.Clean(s)
			}
			return usual
		}
		if at(hot) == at(cold) {
			return at(hot)
		}
	}
	return ""
}

// innermost is what a spec wraps with "measure" and "log".
func innermost(spec map[string]any) map[string]any {
	for {
		child, ok := spec["child"].(map[string]any)
		if !ok {
			return spec
		}
		spec = child
	}
}

// DiskSpec names both stores.
func (c *config) DiskSpec() fsrepo.DiskSpec {
	spec := fsrepo.DiskSpec{"type": TypeName}
	for name, child := range map[string]fsrepo.DatastoreConfig{"hot": c.hot, "cold": c.cold} {
		of := child.DiskSpec()
		if of == nil {
			of = fsrepo.DiskSpec{}
		}
		spec[name] = map[string]any(of)
	}
	return spec
}

// Create opens both stores of the repo in path.
func (c *config) Create(path string) (repo.Datastore, error) {
	hot, err := c.hot.Create(path)
	if err != nil {
		return nil, fmt.Errorf("tiered: open the hot store: %w", err)
	}
	cold, err := c.cold.Create(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tiered: open the cold store: %w", err), hot.Close())
	}
	k := &known{tiered.New(hot, cold, tiered.Options{Promote: c.promote}), path, nil}
	if err := k.count(); err != nil {
		return nil, errors.Join(fmt.Errorf("tiered: register metrics: %w", err), k.Store.Close())
	}
	opened.Store(path, k)
	return k, nil
}

// opened holds the stores that are open in this process, by the folder of their repo.
var opened sync.Map

// Opened returns the store of the repo in a folder, as repo.Repo's Path names it, if this process has it open. It stays the repo's. Safe for
// concurrent use.
func Opened(path string) (*tiered.Store, bool) {
	k, ok := opened.Load(path)
	if !ok {
		return nil, false
	}
	return k.(*known).Store, true
}

// known is forgotten when it is closed.
type known struct {
	*tiered.Store
	path    string
	metrics []prometheus.Collector
}

var _ ds.Batching = (*known)(nil)

// count shows what the store does in the metrics of the process.
func (k *known) count() error {
	for _, m := range []struct {
		name, help string
		read       func(tiered.Stats) uint64
	}{
		{"tiered_cold_reads_total", "Blocks that were read from the cold store.", func(s tiered.Stats) uint64 { return s.ColdReads }},
		{"tiered_promoted_total", "Blocks that were read from the cold store and written to the hot one.", func(s tiered.Stats) uint64 { return s.Promoted }},
		{"tiered_promote_failures_total", "Blocks that could not be written to the hot store when they were read.", func(s tiered.Stats) uint64 { return s.PromoteFailures }},
	} {
		c := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m.name, Help: m.help}, func() float64 { return float64(m.read(k.Stats())) })
		if err := prometheus.Register(c); err != nil {
			var twice prometheus.AlreadyRegisteredError
			if errors.As(err, &twice) { // of another repo that is open in this process
				continue
			}
			return err
		}
		k.metrics = append(k.metrics, c)
	}
	return nil
}

func (k *known) Close() error {
	opened.CompareAndDelete(k.path, k)
	for _, c := range k.metrics {
		prometheus.Unregister(c)
	}
	return k.Store.Close()
}
