package settings

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/repo/fsrepo"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/internal/durable"
	s3plugin "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
)

// Change is one key of the config that gets another value.
type Change struct {
	Key      string // in kubo's spelling; of the blocks' store: "blockstore" and its own key
	Old, New string // as JSON; "" where the key is not set
	From     string // who says so: a variable or flag, or why it follows
}

func (c Change) String() string {
	return fmt.Sprintf("%s: %s → %s (%s)", c.Key, orDefault(c.Old), orDefault(c.New), c.From)
}

func orDefault(s string) string {
	if s == "" {
		return "default"
	}
	return s
}

const notShown = "(not shown)"

// Plan is what the settings make of the config of a repo.
type Plan struct {
	Config  map[string]any // the new config, complete
	Changes []Change       // none: the config is as the settings say
	Notes   []string       // what is left alone, and why

	diskSpec string // what datastore_spec is to say; "" if it says so already
}

// Write makes the repo in a folder what the plan says. Each file is replaced as
// a whole; if the process dies between the two, the next plan has the rest. The
// caller holds the repo's lock.
//
// upstream: spec-files
func (p *Plan) Write(root string) error {
	if p.diskSpec != "" {
		if err := durable.WriteFile(filepath.Join(root, specFile), []byte(p.diskSpec), 0o600); err != nil {
			return err
		}
	}
	return WriteConfig(root, p.Config)
}

// Plan compares the settings with the repo in a folder: with its config, and
// with datastore_spec, which says what the data is. It returns a [*Moved] if the
// blocks would have to be moved. It changes nothing; kubo's datastore plugins
// must be loaded.
func (s *Settings) Plan(root string) (*Plan, error) {
	conf, err := ReadConfig(root)
	if err != nil {
		return nil, err
	}
	p := &Plan{Config: conf}
	switch {
	case s.Blocks != nil && partOf(root, s.Blocks):
		p.Notes = append(p.Notes, "the blocks are in two stores, of which "+s.Blocks.Where()+" is one: the store is left as it is until they have come together")
	case s.Blocks != nil:
		if err := p.blocks(root, s.Blocks, s.Keys != s3plugin.Keys{}); err != nil {
			return nil, err
		}
	default:
		if err := Mismatch(root); err != nil {
			return nil, err
		}
	}
	if s.StorageMax != "" {
		p.Set("Datastore.StorageMax", s.StorageMax, StorageMax)
	}
	if s.GatewayURL != "" {
		old, _ := lookup(p.Config, strings.Split(appendAnnounce, ".")).([]any)
		p.Set(appendAnnounce, announceGateway(old, s.GatewayURL), GatewayURL)
	}
	for _, o := range s.Overrides {
		p.set(o.Path, o.Value, o.From, o.Secret)
	}
	if _, err := config.FromMap(p.Config); err != nil {
		return nil, fmt.Errorf("the config of the repo at %s with these settings is not one that kubo reads: %w", root, err)
	}
	return p, nil
}

// SetDefault sets a key that the config does not set, for a reason.
func (p *Plan) SetDefault(key string, value any, why string) {
	path := strings.Split(key, ".")
	if lookup(p.Config, path) == nil {
		p.set(path, value, why, false)
	}
}

// Set sets a key for a reason.
func (p *Plan) Set(key string, value any, why string) {
	p.set(strings.Split(key, "."), value, why, false)
}

func (p *Plan) set(path []string, value any, from string, secret bool) {
	old := lookup(p.Config, path)
	if same(old, value) {
		return
	}
	c := Change{Key: strings.Join(path, "."), Old: show(old), New: show(value), From: from}
	if secret {
		c.Old, c.New = notShown, notShown
	}
	p.Changes = append(p.Changes, c)
	put(p.Config, path, value)
}

// blocks puts the chosen store in the place of the present one.
// Static credentials in the config stay unless there are others: they may be
// nowhere else.
func (p *Plan) blocks(root string, b *Blocks, keys bool) error {
	spec, _ := lookup(p.Config, []string{"Datastore", "Spec"}).(map[string]any)
	next := clone(spec)
	at := BlocksStore(next)
	old := clone(at)
	if at == nil { // one store for everything
		at = map[string]any{"mountpoint": "/blocks"}
		next = map[string]any{"type": "mount", "mounts": []any{at, rootMount()}}
	}
	for key := range at {
		stays := kept(key, b) || b.Name == S3 && !keys && slices.Contains(keyNames, key)
		if !stays {
			delete(at, key)
		}
	}
	maps.Copy(at, b.Spec)
	var err error
	if p.diskSpec, err = moved(root, next, b); err != nil {
		return err
	}
	if err := b.journalStays(root, old); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(union(old, at))) {
		if same(old[key], at[key]) || kept(key, b) {
			continue
		}
		c := Change{Key: "blockstore " + key, Old: show(old[key]), New: show(at[key]), From: Blockstore + "=" + b.Name}
		if name := b.call(key); b.from[key] != "" {
			c.From = name
		} else if at[key] == nil && name != key {
			c.From = name + " is not set"
		}
		if key == "secretKey" || key == "sessionToken" {
			c.Old, c.New = notShown, "taken out"
		}
		p.Changes = append(p.Changes, c)
	}
	put(p.Config, []string{"Datastore", "Spec"}, next)
	if old["type"] != at["type"] || old["layout"] != at["layout"] {
		p.follow(b)
	}
	return nil
}

// keyNames are the keys of static credentials.
var keyNames = []string{"accessKey", "secretKey", "sessionToken"}

// kept are the keys beside a store that are kubo's own.
func kept(key string, b *Blocks) bool { return key == "mountpoint" || key == "prefix" && b.Name != S3 }

// follow sets what a blockstore wants of the rest of the config.
func (p *Plan) follow(b *Blocks) {
	keys := b.Follow(p.Config)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		p.set(strings.Split(key, "."), keys[key], Blockstore+"="+b.Name, false)
	}
}

// Follow returns what a blockstore wants of the rest of a config: values by key,
// of the keys that are not set, or that have another blockstore's default. It is
// for a repo that gets the blockstore.
func (b *Blocks) Follow(conf map[string]any) map[string]any {
	keys := map[string]any{}
	for _, f := range followers(b) {
		old := lookup(conf, f.path)
		if old == nil || slices.ContainsFunc(f.instead, func(v any) bool { return same(v, old) }) {
			keys[strings.Join(f.path, ".")] = f.value
		}
	}
	return keys
}

// follower is a key whose default another blockstore wants otherwise.
type follower struct {
	path    []string
	instead []any // values that are replaced, besides none: defaults
	value   any
}

// unbounded is the size of a store that has none of its own.
const unbounded = "1PB"

func followers(b *Blocks) []follower {
	stock := config.DefaultDatastoreConfig().StorageMax
	size := follower{[]string{"Datastore", "StorageMax"}, []any{stock}, unbounded}
	if b.Name == Flatfs {
		size.instead, size.value = []any{unbounded}, stock
	}
	// A bucket and EFS have no size of their own, so the 10 GB that kubo takes for
	// a full disk (gc watermark, the cluster's free-space metric) would be wrong.
	list := []follower{size}
	if b.Name == S3 {
		// Announcing every block lists the whole bucket at each round (12 LIST in
		// 100 s for 5,150 blocks), announcing pinned ones reads each; roots ask
		// nothing.
		list = append(list, follower{[]string{"Provide", "Strategy"}, nil, "roots"})
	}
	if b.Spec["layout"] == s3ds.LayoutPacks || b.Name == EFS {
		// kubo remembers which blocks are there, and passes no put of those on: a
		// block that was found to be damaged could not be healed by adding it again.
		// The index of such a store answers as fast as that memory.
		list = append(list, follower{[]string{"Datastore", "BlockKeyCacheSize"}, nil, json.Number("0")})
	}
	return list
}

// Use makes a config keep its blocks in the chosen store, mounted at /blocks
// beside kubo's leveldb for everything else. It is for a new repo, and for one
// whose blocks have been moved.
func (b *Blocks) Use(conf *config.Config) error {
	m, err := config.ToMap(conf)
	if err != nil {
		return err
	}
	p := &Plan{Config: m}
	store := maps.Clone(b.Spec)
	store["mountpoint"] = "/blocks"
	put(m, []string{"Datastore", "Spec"}, map[string]any{"type": "mount", "mounts": []any{store, rootMount()}})
	p.follow(b)
	next, err := config.FromMap(m)
	if err != nil {
		return err
	}
	*conf = *next
	return nil
}

// rootMount is kubo's leveldb for everything that is not a block.
func rootMount() map[string]any {
	return map[string]any{"mountpoint": "/", "type": "levelds", "path": "datastore", "compression": "none"}
}

// journalStays refuses a journal in another folder while blocks, and the id of
// this node, are in the old one.
func (b *Blocks) journalStays(root string, old map[string]any) error {
	if b.Name != S3 || old["type"] != s3ds.Type {
		return nil
	}
	where := func(spec map[string]any) string {
		path, _ := spec["journalPath"].(string)
		if path == "" {
			path = filepath.Join("s3ds", "journal")
		}
		return inside(root, path)
	}
	from, to := where(old), where(b.Spec)
	if from == to || empty(from) {
		return nil
	}
	name := b.call("journalPath")
	if !empty(to) {
		return fmt.Errorf("%s: the journal is to be in %s, and there are files both there and in %s, where it is; blocks may be in the latter only: "+
			"set it back, or empty %s and move the journal there", name, to, from, to)
	}
	return fmt.Errorf("%s: the journal is to be in %s, and in %s are blocks that may be nowhere else: move it with `mkdir -p %s && mv %s/* %s/`, or set it back", name, to, from, to, from, to)
}

// empty reports whether a folder has nothing in it, or is not there.
func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err != nil || len(entries) == 0
}

// BlocksStore is the store of a mount spec that serves /blocks, without what is
// wrapped around it ("measure" and "log"), or nil.
func BlocksStore(spec map[string]any) map[string]any {
	mounts, _ := spec["mounts"].([]any)
	for _, m := range mounts {
		if m, ok := m.(map[string]any); ok && m["mountpoint"] == "/blocks" {
			for {
				child, ok := m["child"].(map[string]any)
				if !ok {
					return m
				}
				m = child
			}
		}
	}
	return nil
}

// diskSpec is what kubo would compare with the file datastore_spec.
func diskSpec(spec map[string]any) (string, error) {
	plain, ok := normalise(spec).(map[string]any) // kubo's parsers want float64
	if !ok {
		return "", fmt.Errorf("config Datastore.Spec is not set")
	}
	c, err := fsrepo.AnyDatastoreConfig(plain)
	if err != nil {
		return "", err
	}
	return c.DiskSpec().String(), nil
}

func union(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]any{}
	}
	maps.Copy(out, b)
	return out
}

// show is a value as JSON, or "".
func show(v any) string {
	if v == nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// same compares two values as they would stand in the config file.
func same(a, b any) bool { return reflect.DeepEqual(normalise(a), normalise(b)) }

func normalise(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return v
	}
	var out any
	if json.Unmarshal(b, &out) != nil {
		return v
	}
	return out
}

func clone(m map[string]any) map[string]any {
	if m == nil {
		return nil
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = cloneValue(v)
	}
	return out
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return clone(v)
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = cloneValue(e)
		}
		return list
	}
	return v
}

// lookup is the value at a path, or nil.
func lookup(m map[string]any, path []string) any {
	var at any = m
	for _, key := range path {
		next, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = next[key]
	}
	return at
}

// put sets the value at a path, or takes the key out if the value is nil.
func put(m map[string]any, path []string, value any) {
	for _, key := range path[:len(path)-1] {
		next, ok := m[key].(map[string]any)
		if !ok {
			if value == nil {
				return
			}
			next = map[string]any{}
			m[key] = next
		}
		m = next
	}
	if last := path[len(path)-1]; value == nil {
		delete(m, last)
	} else {
		m[last] = value
	}
}
