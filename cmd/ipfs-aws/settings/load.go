package settings

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/libp2p/go-libp2p/core/pnet"

	efsstore "github.com/ipfs-aws/ipfs-aws/datastore/efs"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/internal/environ"
	efsplugin "github.com/ipfs-aws/ipfs-aws/plugin/efs"
	s3plugin "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
)

// Input is what settings are read from.
type Input struct {
	// Environ is the environment, as [os.Environ] gives it.
	Environ []string
	// Flags are the flags that were given, by name without dashes.
	Flags map[string]string
	// Chooser is the flag that names the blockstore; "" for "blockstore".
	Chooser string
	// Default is the blockstore where nobody names one; "" for none, which leaves
	// the config alone.
	Default string
	// Repo is the folder of a repo that is there already; "" for a new one.
	Repo string
}

// Settings are checked settings.
type Settings struct {
	// Blocks is the store of the blocks; nil if nobody names one.
	Blocks *Blocks
	// Chosen is set if somebody names Blocks, and it is not the default.
	Chosen bool
	// Keys are static credentials for S3, if any are given.
	Keys s3plugin.Keys
	// Overrides are the values for keys of kubo's config.
	Overrides []Override
	// Profiles of kubo's for a new repo, separated by commas.
	Profiles string
	// StorageMax is how much the repo may hold; "" for what the config says.
	StorageMax string
	// GatewayURL is where peers can fetch from the gateway; "" for what the config says.
	GatewayURL string
	// SwarmKey is the private network's, as it stands in the repo's file swarm.key.
	SwarmKey []byte
	// TakeOver has a store in a bucket take its prefix over from another node.
	TakeOver bool
	// Warnings are lines about variables that have no effect.
	Warnings []string
}

// Blocks says where blocks are kept.
type Blocks struct {
	Name string         // one of Blockstores
	Spec map[string]any // the store's part of Datastore.Spec, without mountpoint and secrets

	from map[string]string // how the user calls each key that he set
	flag bool              // he talks in flags
}

// Load reads and checks all settings. If anything is wrong the error is an
// [environ.Problems] that holds all of it. Apart from files that are named by
// the settings (secrets, the AWS shared config) nothing is touched.
func Load(ctx context.Context, in Input) (*Settings, error) {
	l := &loader{Reader: environ.New(in.Environ), in: in}
	if l.in.Chooser == "" {
		l.in.Chooser = "blockstore"
	}
	l.stray()
	for _, s := range table {
		if v := l.Value(s.Variable); s.check != nil && v != "" {
			if want := s.check(v); want != "" {
				l.Bad(s.Variable, v, "%s", want)
			}
		}
	}
	s := &Settings{Profiles: l.Value(Profile), StorageMax: l.Value(StorageMax), GatewayURL: l.Value(GatewayURL), SwarmKey: l.swarmKey(), Keys: l.keys()}
	s.TakeOver, _ = strconv.ParseBool(l.Value(TakeOver)) // checked above
	s.Blocks, s.Chosen = l.blocks(ctx, s.Keys)
	s.Overrides = l.overrides()
	for _, o := range s.Overrides {
		if o.Key() == "Datastore.StorageMax" && s.StorageMax != "" {
			l.Bad(StorageMax, s.StorageMax, "is set, and so is %s: leave one out", o.From)
		}
		if o.Key() == appendAnnounce && s.GatewayURL != "" {
			l.Bad(GatewayURL, s.GatewayURL, "is set, and so is %s: leave one out", o.From)
		}
	}
	s.Warnings = l.warnings
	if err := l.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

// LoadKeys reads the static credentials for S3, and whether a prefix is to be
// taken over, for commands that take the repo as it is.
func LoadKeys(vars []string) (keys s3plugin.Keys, takeOver bool, err error) {
	l := &loader{Reader: environ.New(vars)}
	keys = l.keys()
	if v := l.Value(TakeOver); v != "" {
		if takeOver, err = strconv.ParseBool(v); err != nil {
			l.Bad(TakeOver, v, "%s", isTruth(v))
		}
	}
	return keys, takeOver, l.Err()
}

// Secrets are the variables that hold secrets, with their _FILE forms.
func Secrets() []string {
	var names []string
	for _, s := range table {
		if s.Secret {
			names = append(names, s.Variable, s.Variable+environ.FileSuffix)
		}
	}
	return names
}

type loader struct {
	*environ.Reader
	in       Input
	warnings []string
}

// ours are the beginnings of names that nobody but us uses: an unknown one is
// a typing error.
var ours = []string{Blockstore, "IPFS_S3_", "IPFS_EFS_", "IPFS_FLATFS_"}

// stray looks for variables that are not known.
func (l *loader) stray() {
	const common = "IPFS_"
	known := Names()
	var rest []string
	for _, name := range known {
		rest = append(rest, strings.TrimPrefix(name, common))
	}
	for _, name := range l.Names(common) {
		if slices.Contains(known, name) || strings.HasPrefix(name, ConfigPrefix) || strings.HasPrefix(name, "IPFS_CLUSTER_") {
			continue
		}
		isOurs := slices.ContainsFunc(ours, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		meant, near := environ.Nearest(name, known)
		if !isOurs { // other programs' names begin with IPFS_ as well, so that counts for nothing
			meant, near = environ.Nearest(strings.TrimPrefix(name, common), rest)
			meant = common + meant
		}
		switch {
		case near:
			l.Bad(name, "", "no setting has this name; did you mean %s?", meant)
		case isOurs:
			l.Bad(name, "", "no setting has this name: docs/settings.md lists all of them")
		default:
			l.warnings = append(l.warnings, name+" has no effect: no setting has this name")
		}
	}
}

func (l *loader) swarmKey() []byte {
	v, from := l.Secret(SwarmKey)
	if v == "" {
		return nil
	}
	key := []byte(v + "\n")
	if _, err := pnet.DecodeV1PSK(bytes.NewReader(key)); err != nil {
		l.Bad(from, "", "must be a libp2p key: the lines /key/swarm/psk/1.0.0/, /base16/ and 64 hexadecimal digits")
		return nil
	}
	return key
}

func (l *loader) keys() s3plugin.Keys {
	var k s3plugin.Keys
	for _, s := range table {
		if s.Store != S3 || !s.Secret {
			continue
		}
		v, _ := l.Secret(s.Variable)
		switch s.Key {
		case "accessKey":
			k.AccessKey = v
		case "secretKey":
			k.SecretKey = s3ds.Secret(v)
		case "sessionToken":
			k.SessionToken = s3ds.Secret(v)
		}
	}
	return k
}

// blocks reads the choice of the blockstore and what belongs to it.
func (l *loader) blocks(ctx context.Context, keys s3plugin.Keys) (b *Blocks, chosen bool) {
	env, flag := l.Value(Blockstore), l.in.Flags[l.in.Chooser]
	b = &Blocks{Name: env, Spec: map[string]any{}, from: map[string]string{}, flag: flag != ""}
	chooser := Blockstore
	if flag != "" {
		b.Name, chooser = flag, "--"+l.in.Chooser
	}
	chosen = b.Name != ""
	if !chosen {
		b.Name = l.in.Default
	}
	if b.Name != "" && !slices.Contains(Blockstores, b.Name) {
		l.Bad(chooser, b.Name, "is not known: use one of %s", strings.Join(Blockstores, ", "))
		return nil, chosen
	}
	// Who names another store by a flag has not meant the variables of the first.
	variables := flag == "" || env == "" || env == flag
	belongs := map[string]bool{}
	for _, s := range table {
		belongs[s.Flag] = belongs[s.Flag] || s.Store == b.Name
	}
	complained := map[string]bool{}
	for _, s := range table {
		if s.Store == "" || s.Secret {
			continue
		}
		value, from := l.Value(s.Variable), s.Variable
		if !variables {
			value = ""
		}
		if v := l.in.Flags[s.Flag]; s.Flag != "" && v != "" && (s.Store == b.Name || !belongs[s.Flag]) {
			value, from = v, "--"+s.Flag
			b.flag = true
		}
		if value == "" || complained[from] {
			continue
		}
		switch {
		case s.Store == b.Name && (chosen || strings.HasPrefix(from, "--")):
			v, want := s.kind.value(value)
			if want != "" {
				l.Bad(from, shown(value), "%s", want)
				continue
			}
			b.Spec[s.Key], b.from[s.Key] = v, from
		case chosen:
			complained[from] = true
			l.Bad(from, shown(value), "is only for %s %s, and it is %s: leave it out, or choose %s", chooserName(chooser), s.Store, b.Name, s.Store)
		default:
			complained[from] = true
			set := Blockstore + "=" + s.Store
			if strings.HasPrefix(from, "--") {
				set = "--" + l.in.Chooser + " " + s.Store
			}
			l.Bad(from, shown(value), "is set, and no blockstore is chosen: add %s, or leave it out", set)
		}
	}
	if b.Name == "" {
		return nil, false
	}
	if err := b.complete(ctx, l.in.Repo); err != nil {
		l.Bad(b.call("region"), "", "%v", err)
		b.Spec["region"] = "unknown" // so that the parser does not say it again
	}
	if durable, _ := b.Spec["namesDurable"].(bool); durable && l.in.Repo != "" {
		if err := efsstore.CheckNamesDurable(inside(l.in.Repo, b.Spec["path"].(string))); err != nil {
			l.Bad(b.call("namesDurable"), "true", "is not for this folder: %v", err)
		}
	}
	for _, p := range b.problems(keys) {
		l.Bad(p.Name, p.Value, "%s", p.Want)
	}
	return b, chosen
}

// shown is what may be shown of a value: a URL with a password in it is not.
func shown(value string) string {
	if strings.Contains(value, "://") && strings.Contains(value, "@") {
		return ""
	}
	return value
}

// chooserName is how a choice is spelt before its value.
func chooserName(chooser string) string {
	if strings.HasPrefix(chooser, "--") {
		return chooser
	}
	return "the blockstore"
}

// call is how the user calls a key of the store, or would.
func (b *Blocks) call(key string) string {
	if from, ok := b.from[key]; ok {
		return from
	}
	for _, s := range table {
		if s.Store == b.Name && s.Key == key {
			if b.flag && s.Flag != "" {
				return "--" + s.Flag
			}
			return s.Variable
		}
	}
	return key
}

// shardFunc is that of kubo's new flatfs repos.
const shardFunc = "/repo/flatfs/shard/v1/next-to-last/2"

// complete adds what is not set: from the repo where it belongs to the data, or
// is where some of it lies, else the default.
func (b *Blocks) complete(ctx context.Context, repo string) error {
	var is map[string]any
	if repo != "" {
		is = present(repo)
	}
	take := func(key, def string) {
		v, _ := is[key].(string)
		if v == "" {
			v = def
		}
		if b.Spec[key] == nil && v != "" {
			b.Spec[key] = v
		}
	}
	if b.Name != S3 {
		if is["type"] != flatfsType {
			is = nil
		}
		// kubo compares letters, so the same folder keeps the spelling that it has.
		if old, _ := is["path"].(string); old != "" && b.Spec["path"] != nil && inside(repo, old) == inside(repo, b.Spec["path"].(string)) {
			b.Spec["path"] = old
		}
		take("path", "blocks")
		take("shardFunc", shardFunc)
		b.Spec["type"] = efsplugin.TypeName
		if b.Name == Flatfs {
			// kubo's default of false acknowledges blocks that only the page cache holds.
			b.Spec["type"], b.Spec["sync"] = flatfsType, true
		}
		return nil
	}
	b.Spec["type"] = s3ds.Type
	if prefix, _ := b.Spec["rootDirectory"].(string); prefix != "" {
		old, _ := is["rootDirectory"].(string)
		prefix = strings.Trim(prefix, "/")
		switch {
		case old != "" && strings.Trim(old, "/") == prefix:
			b.Spec["rootDirectory"] = old
		case prefix == "":
			delete(b.Spec, "rootDirectory")
		default:
			b.Spec["rootDirectory"] = prefix
		}
	}
	if is["type"] != s3ds.Type || is["bucket"] != b.Spec["bucket"] {
		is = nil
	}
	take("region", "")
	if is == nil {
		take("layout", s3ds.LayoutPacks)
	} else {
		take("layout", "") // none means objects
		if b.Spec["rootDirectory"] == is["rootDirectory"] {
			for _, key := range []string{"journalPath", "indexPath", "cachePath"} {
				take(key, "")
			}
		}
	}
	if b.Spec["region"] != nil {
		return nil
	}
	region, err := defaultRegion(ctx, b.Spec["regionEndpoint"] != nil)
	if err != nil {
		return err
	}
	b.Spec["region"] = region
	return nil
}

// inside is a path that is relative to a repo.
func inside(repo, path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(repo, path)
	}
	return filepath.Clean(path)
}

// flatfsType is stock flatfs in a Datastore.Spec.
const flatfsType = "flatfs"

// defaultRegion is the region that the AWS environment and shared config name.
// S3-compatible servers seldom care, and the ones that do are set up as
// us-east-1 by default.
func defaultRegion(ctx context.Context, ownEndpoint bool) (string, error) {
	cfg, err := awsconfig.LoadDefaultConfig(ctx)
	switch {
	case err != nil:
		return "", fmt.Errorf("read the AWS environment: %w", err)
	case cfg.Region != "":
		return cfg.Region, nil
	case ownEndpoint:
		return "us-east-1", nil
	}
	return "", errors.New("is not set, and the AWS environment names none: give the region of the bucket, for example eu-west-1, or set AWS_REGION")
}

// problems asks the store's own parser, and translates what it says into the
// names that the user knows.
func (b *Blocks) problems(keys s3plugin.Keys) []environ.Problem {
	var err error
	switch b.Name {
	case S3:
		_, err = keys.Parse(b.Spec)
	case EFS:
		err = efsplugin.Check(b.Spec)
	case Flatfs:
		// flatfs's own parser checks types only; efs reads the same layout.
		spec := map[string]any{"type": efsplugin.TypeName, "path": b.Spec["path"], "shardFunc": b.Spec["shardFunc"]}
		err = efsplugin.Check(spec)
	}
	var out []environ.Problem
	for _, leaf := range leaves(err) {
		out = append(out, b.translate(leaf.Error()))
	}
	return out
}

// leaves are the single errors in one that was joined and wrapped.
func leaves(err error) []error {
	switch e := err.(type) {
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		var out []error
		for _, one := range e.Unwrap() {
			out = append(out, leaves(one)...)
		}
		return out
	}
	if next := errors.Unwrap(err); next != nil {
		if _, joined := next.(interface{ Unwrap() []error }); joined {
			return leaves(next)
		}
	}
	return []error{err}
}

// translate turns a store's complaint, which begins with the keys it is about
// (`workers: 0: use …`, `efs: setting "workers": is …`), into a problem of the
// setting.
func (b *Blocks) translate(text string) environ.Problem {
	if rest, ok := strings.CutPrefix(text, `efs: setting "`); ok {
		text = strings.Replace(rest, `"`, "", 1)
	}
	head, rest, ok := strings.Cut(text, ": ")
	if !ok {
		return environ.Problem{Name: Blockstore, Value: b.Name, Want: text}
	}
	names := strings.Split(head, ", ")
	name := b.call(names[0])
	for _, n := range names { // the one that the user has set
		if _, set := b.from[n]; set {
			name = b.call(n)
			break
		}
	}
	for _, s := range table {
		if s.Store == b.Name && strings.ToLower(s.Key) != s.Key { // the others are also words
			rest = strings.ReplaceAll(rest, s.Key, b.call(s.Key))
		}
	}
	value := ""
	if key := names[0]; b.from[key] != "" {
		value = fmt.Sprint(b.Spec[key])
		for _, given := range []string{fmt.Sprintf("%q: ", value), value + ": ", fmt.Sprintf("%q ", value)} {
			rest = strings.TrimPrefix(rest, given)
		}
	}
	return environ.Problem{Name: name, Value: shown(value), Want: rest}
}

// TakeSecrets removes the variables that hold secrets from the process's
// environment. Call it after [Load].
func TakeSecrets() error {
	return environ.Take(append(Secrets(), environ.New(os.Environ()).Names(ConfigPrefix)...)...)
}
