package efs

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/dustin/go-humanize"
	flatfs "github.com/ipfs/go-ds-flatfs"
	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/loader"
	"github.com/ipfs/kubo/repo"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs"
	"github.com/ipfs-aws/ipfs-aws/internal/version"
)

// TypeName is the datastore's type in kubo's Datastore.Spec.
const TypeName = "efsds"

func init() { loader.Preload(datastorePlugin{}) }

type datastorePlugin struct{}

var _ plugin.PluginDatastore = datastorePlugin{}

func (datastorePlugin) Name() string                   { return "ipfs-aws-efs" }
func (datastorePlugin) Version() string                { return version.Version }
func (datastorePlugin) Init(*plugin.Environment) error { return nil }
func (datastorePlugin) DatastoreTypeName() string      { return TypeName }

// DatastoreConfigParser validates the settings, and names everything that is
// wrong with them at once.
func (datastorePlugin) DatastoreConfigParser() fsrepo.ConfigFromMap {
	return func(params map[string]any) (fsrepo.DatastoreConfig, error) {
		return parse(params)
	}
}

// Check names everything that is wrong with the settings of a store, as the
// parser does that kubo calls.
func Check(params map[string]any) error {
	_, err := parse(params)
	return err
}

// Settings are the keys that a store may have in the config.
func Settings() []string { return slices.Clone(settings) }

// settings are the keys that may stand beside each other in the config.
// mountpoint and prefix are kubo's own, and stand in what it makes for flatfs.
var settings = []string{"type", "mountpoint", "prefix", "path", "shardFunc", "sync", "workers", "namesDurable", "indexPath", "cachePath", "cacheSize"}

type config struct{ efs.Config }

func parse(params map[string]any) (*config, error) {
	p := parser{params: params}
	for key := range params {
		if !slices.Contains(settings, key) {
			p.bad(key, "is not known; known are %s", strings.Join(settings, ", "))
		}
	}
	c := config{efs.Config{
		Path:         p.text("path", true),
		ShardFunc:    p.text("shardFunc", true),
		Workers:      int(p.number("workers")),
		NamesDurable: p.truth("namesDurable"),
		IndexPath:    p.text("indexPath", false),
		CachePath:    p.text("cachePath", false),
		CacheBytes:   p.bytes("cacheSize"),
	}}
	p.truth("sync") // flatfs's; efs syncs whatever it says
	if _, set := params["workers"]; set && c.Workers == 0 && !p.malformed {
		p.bad("workers", "is 0; it must be between 1 and %d (default %d)", efs.MaxWorkers, efs.DefaultWorkers)
	}
	for key, path := range map[string]string{"indexPath": c.IndexPath, "cachePath": c.CachePath} {
		if path != "" && !filepath.IsAbs(path) {
			p.bad(key, "is %q; it must be an absolute path", path)
		}
	}
	if !p.malformed {
		p.errs = append(p.errs, c.Validate())
	}
	if err := errors.Join(p.errs...); err != nil {
		return nil, err
	}
	return &c, nil
}

// DiskSpec is that of flatfs.
func (c *config) DiskSpec() fsrepo.DiskSpec {
	shardFunc, err := flatfs.ParseShardFunc(c.ShardFunc)
	if err != nil {
		return nil // parse has seen to it that this cannot be
	}
	return fsrepo.DiskSpec{"type": "flatfs", "path": c.Path, "shardFunc": shardFunc.String()}
}

// Create opens the store of the repo in repoPath.
func (c *config) Create(repoPath string) (repo.Datastore, error) {
	cfg := c.Config
	if !filepath.IsAbs(cfg.Path) {
		cfg.Path = filepath.Join(repoPath, cfg.Path)
	}
	d, err := efs.Open(cfg)
	if err != nil {
		return nil, err
	}
	at := place{repoPath, filepath.Clean(cfg.Path)}
	opened.Store(at, d)
	registerOnce.Do(func() { err = prometheus.Register(damaged{}) })
	if err != nil {
		return nil, errors.Join(err, known{d, at}.Close())
	}
	return known{d, at}, nil
}

var registerOnce sync.Once

var descDamaged = prometheus.NewDesc("efs_verification_failures_total", "Reads of blocks whose bytes did not hash to their names.", nil, nil)

// damaged is the collector of the stores that are open.
type damaged struct{}

// Describe implements prometheus.Collector.
func (damaged) Describe(ch chan<- *prometheus.Desc) { ch <- descDamaged }

// Collect implements prometheus.Collector.
func (damaged) Collect(ch chan<- prometheus.Metric) {
	n := uint64(0)
	for _, d := range opened.Range {
		if s, err := d.(*efs.Datastore).Stat(); err == nil {
			n += s.Damaged
		}
	}
	ch <- prometheus.MustNewConstMetric(descDamaged, prometheus.CounterValue, float64(n))
}

// opened holds the stores that are open in this process, by their place. A repo may have two: see plugin/tiered.
var opened sync.Map

// place is the folder of a repo, and that of the blocks.
type place struct{ repo, blocks string }

// Opened returns the store with these settings of the repo in a folder, as repo.Repo's Path names
// it, if this process has it open. It stays the repo's: it must not be closed,
// and may be closed at any time. Safe for concurrent use.
func Opened(repo string, params map[string]any) (*efs.Datastore, bool) {
	path, _ := params["path"].(string)
	if !filepath.IsAbs(path) {
		path = filepath.Join(repo, path)
	}
	d, ok := opened.Load(place{repo, filepath.Clean(path)})
	if !ok {
		return nil, false
	}
	return d.(*efs.Datastore), true
}

// known is taken out of what Opened knows when it is closed: kubo opens and
// closes a repo several times in one process (init does).
type known struct {
	*efs.Datastore
	at place
}

func (k known) Close() error {
	opened.CompareAndDelete(k.at, k.Datastore)
	return k.Datastore.Close()
}

// parser takes values from a JSON object and collects what is wrong with them.
type parser struct {
	params    map[string]any
	errs      []error
	malformed bool // a value is not of its type
}

func (p *parser) bad(setting, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("efs: setting %q: %s", setting, fmt.Sprintf(format, args...)))
}

func (p *parser) malform(setting, format string, args ...any) {
	p.malformed = true
	p.bad(setting, format, args...)
}

func (p *parser) text(setting string, required bool) string {
	v, set := p.params[setting]
	s, ok := v.(string)
	switch {
	case !set && required:
		p.malform(setting, "is missing")
	case set && !ok:
		p.malform(setting, "is %v; it must be a string", v)
	case set && s == "":
		p.malform(setting, "is empty")
	}
	return s
}

// number takes a whole number as JSON decoders give it.
func (p *parser) number(setting string) int64 {
	switch v := p.params[setting].(type) {
	case nil:
		return 0
	case int:
		return int64(v)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
	}
	p.malform(setting, "is %v; it must be a whole number", p.params[setting])
	return 0
}

func (p *parser) truth(setting string) bool {
	v, set := p.params[setting]
	b, ok := v.(bool)
	if set && !ok {
		p.malform(setting, "is %v; it must be true or false", v)
	}
	return b
}

func (p *parser) bytes(setting string) int64 {
	s, ok := p.params[setting].(string)
	if !ok {
		return p.number(setting)
	}
	n, err := humanize.ParseBytes(s)
	if err != nil || n > math.MaxInt64 {
		p.malform(setting, "is %q; it must be a number of bytes, as 10737418240 or \"10GiB\"", s)
		return 0
	}
	return int64(n)
}
