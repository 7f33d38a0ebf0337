package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	efsplugin "github.com/ipfs-aws/ipfs-aws/plugin/efs"
)

// specFile is the file in which kubo keeps what a repo was made with.
const specFile = "datastore_spec"

// Moved says that the blocks of a repo are somewhere else than the settings, or
// the config, want them. Nothing was changed.
type Moved struct {
	Root       string
	Is, Wanted string // in words
	Keep       string // settings that go on with the blocks as they are
	Command    string // that moves them
	ByHand     bool   // it is the config that wants it, and no setting
}

func (m *Moved) Error() string {
	if m.ByHand {
		return fmt.Sprintf("the config of the repo at %s says that the blocks are in %s, but they are in %s (its file %s says so), and nothing was changed: "+
			"start with %s to set the config back, then move them with `%s` if they are to be elsewhere", m.Root, m.Wanted, m.Is, specFile, m.Keep, m.Command)
	}
	return fmt.Sprintf("the settings say that the blocks of the repo at %s are in %s, but they are in %s, and nothing was changed: "+
		"move them with `%s`, or keep them where they are with %s", m.Root, m.Wanted, m.Is, m.Command, m.Keep)
}

// moved compares a spec that a chosen store stands in with what the repo was
// made with. It returns what datastore_spec has to say instead, or "".
func moved(root string, spec map[string]any, b *Blocks) (next string, err error) {
	wanted, err := diskSpec(spec)
	if err != nil {
		return "", err
	}
	is, err := readSpec(root)
	switch {
	case err != nil || is == wanted:
		return "", err
	case otherMounts(is) != otherMounts(wanted):
		if blocksOf(is) != nil {
			return "", otherStores(root, is, wanted)
		}
	case samePlace(is, wanted):
		return wanted, nil
	}
	return "", &Moved{Root: root, Is: describeDisk(is), Wanted: describeDisk(wanted), Keep: keep(root, is), Command: b.Command()}
}

// partOf reports whether the blocks are in a store that is made of others, and
// one of these is the wanted one: so it is while a migration goes on beside a
// daemon.
func partOf(root string, b *Blocks) bool {
	is, err := readSpec(root)
	if err != nil {
		return false
	}
	store := maps.Clone(b.Spec)
	store["mountpoint"] = "/blocks"
	text, err := diskSpec(map[string]any{"type": "mount", "mounts": []any{store}})
	if err != nil {
		return false
	}
	wanted, _ := diskMounts(text)
	delete(wanted, "mountpoint")
	blocks, _ := diskMounts(is)
	for _, part := range blocks {
		if part, ok := part.(map[string]any); ok && same(part, wanted) {
			return true
		}
	}
	return false
}

// samePlace reports whether two texts of datastore_spec have the blocks under the
// same prefix of the same bucket. Either layout reads what the other has written,
// and a bucket has one region, so that a wrong one is told by S3.
func samePlace(is, wanted string) bool {
	a, b := blocksOf(is), blocksOf(wanted)
	return a != nil && b != nil && a.Name == S3 && b.Name == S3 && a.Spec["bucket"] == b.Spec["bucket"] && a.Spec["rootDirectory"] == b.Spec["rootDirectory"]
}

// Mismatch explains a config that says something else about the datastore than
// the repo was made with; kubo shows both as JSON, with the labels exchanged. It
// is nil if they are the same, and where it cannot tell: kubo can.
func Mismatch(root string) error {
	conf, err := ReadConfig(root)
	if err != nil {
		return nil
	}
	spec, _ := lookup(conf, []string{"Datastore", "Spec"}).(map[string]any)
	wanted, err := diskSpec(spec)
	if err != nil {
		return nil
	}
	is, err := readSpec(root)
	if err != nil || is == wanted {
		return nil
	}
	m := &Moved{Root: root, Is: describeDisk(is), Wanted: describeDisk(wanted), Keep: keep(root, is), ByHand: true}
	switch {
	case otherMounts(is) != otherMounts(wanted) && blocksOf(is) != nil:
		return otherStores(root, is, wanted)
	case samePlace(is, wanted):
		return fmt.Errorf("the config of the repo at %s says %s, but its file %s says %s, and nothing was changed: start with %s to go on as the config says, or with %s to set it back",
			root, m.Wanted, specFile, m.Is, keep(root, wanted), m.Keep)
	}
	if b := blocksOf(wanted); b != nil {
		b.reach(root)
		m.Command = b.Command()
	} else {
		m.Command = "ipfs-aws datastore migrate --to BLOCKSTORE"
	}
	return m
}

// otherStores is about what is not blocks.
func otherStores(root, is, wanted string) error {
	return fmt.Errorf("the config of the repo at %s keeps what is not blocks (pins, the MFS root) in another store than the one it is in, and nothing was changed: "+
		"set the mounts other than /blocks in Datastore.Spec back to those of the file %s; the config says %s, the file %s", root, specFile, otherMounts(wanted), otherMounts(is))
}

func readSpec(root string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, specFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("the repo at %s has lost its file %s, which says where its blocks are: restore it from a backup", root, specFile)
	}
	if err != nil {
		return "", fmt.Errorf("read where the blocks of the repo are: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// diskMounts are the mounts in the text of datastore_spec.
func diskMounts(text string) (blocks map[string]any, others []any) {
	var spec map[string]any
	if json.Unmarshal([]byte(text), &spec) != nil {
		return nil, nil
	}
	mounts, ok := spec["mounts"].([]any)
	if !ok {
		return nil, []any{spec}
	}
	for _, m := range mounts {
		if m, ok := m.(map[string]any); ok && m["mountpoint"] == "/blocks" {
			blocks = m
		} else {
			others = append(others, m)
		}
	}
	return blocks, others
}

func otherMounts(text string) string {
	_, others := diskMounts(text)
	return show(others)
}

// blocksOf is the choice that the text of datastore_spec stands for, or nil.
func blocksOf(text string) *Blocks {
	blocks, _ := diskMounts(text)
	word := func(key string) string { s, _ := blocks[key].(string); return s }
	switch {
	case blocks == nil:
		return nil
	case word("type") == flatfsType:
		return &Blocks{Name: EFS, Spec: map[string]any{"type": efsplugin.TypeName, "path": blocks["path"], "shardFunc": blocks["shardFunc"]}}
	case word("bucket") != "": // the disk spec of s3ds has no type
		b := &Blocks{Name: S3, Spec: map[string]any{"type": s3ds.Type, "bucket": blocks["bucket"], "region": blocks["region"]}}
		if word("rootDirectory") != "" {
			b.Spec["rootDirectory"] = blocks["rootDirectory"]
		}
		if word("layout") != "" {
			b.Spec["layout"] = blocks["layout"]
		}
		return b
	}
	return nil
}

// describeDisk says in words where the text of datastore_spec has the blocks.
func describeDisk(text string) string {
	if b := blocksOf(text); b != nil {
		return b.Where()
	}
	blocks, others := diskMounts(text)
	if blocks == nil && len(others) > 0 {
		blocks, _ = others[0].(map[string]any)
	}
	if t, _ := blocks["type"].(string); t != "" {
		return fmt.Sprintf("a datastore of type %s", t)
	}
	return "a datastore that is not known here"
}

// present is the store of the blocks of a repo: which data it is, as datastore_spec
// says, and where the rest of it lies, as the config says. It is nil if that is
// not known.
func present(root string) map[string]any {
	is, err := readSpec(root)
	if err != nil {
		return nil
	}
	b := blocksOf(is)
	if b == nil {
		return nil
	}
	if b.Name == EFS {
		b.Spec["type"] = flatfsType
		return b.Spec
	}
	conf, err := ReadConfig(root)
	if err != nil {
		return b.Spec
	}
	spec, _ := lookup(conf, []string{"Datastore", "Spec"}).(map[string]any)
	if store := BlocksStore(spec); store["bucket"] == b.Spec["bucket"] && same(store["rootDirectory"], b.Spec["rootDirectory"]) {
		for _, key := range []string{"journalPath", "indexPath", "cachePath"} {
			if store[key] != nil {
				b.Spec[key] = store[key]
			}
		}
		if b.Spec["layout"] == nil && store["layout"] == s3ds.LayoutObjects { // two ways to say so
			b.Spec["layout"] = s3ds.LayoutObjects
		}
	}
	return b.Spec
}

// Where says in words where the blocks are.
func (b *Blocks) Where() string {
	if b.Name != S3 {
		where := fmt.Sprintf("files under %v", b.Spec["path"])
		if f := b.Spec["shardFunc"]; f != shardFunc {
			where += fmt.Sprintf(" (shard function %v)", f)
		}
		return where
	}
	prefix := "without a prefix"
	if p := b.Spec["rootDirectory"]; p != nil {
		prefix = fmt.Sprintf("prefix %v", p)
	}
	layout := b.Spec["layout"]
	if layout == nil {
		layout = s3ds.LayoutObjects
	}
	return fmt.Sprintf("the bucket %v (%s, region %v, layout %v)", b.Spec["bucket"], prefix, b.Spec["region"], layout)
}

// reach takes over from the config of a repo how its bucket is reached, which datastore_spec does not say.
func (b *Blocks) reach(root string) {
	conf, err := ReadConfig(root)
	if err != nil || b.Name != S3 {
		return
	}
	spec, _ := lookup(conf, []string{"Datastore", "Spec"}).(map[string]any)
	store := BlocksStore(spec)
	if store["type"] != s3ds.Type {
		return
	}
	for _, key := range []string{"regionEndpoint", "pathStyle", "credentialsEndpoint"} {
		if store[key] != nil {
			b.Spec[key] = store[key]
		}
	}
}

// keep are the variables that name the store in the text of datastore_spec.
func keep(root, text string) string {
	b := blocksOf(text)
	if b == nil {
		return Blockstore + " not set"
	}
	b.reach(root)
	words := []string{Blockstore + "=" + b.Name}
	for _, s := range table {
		v := b.Spec[s.Key]
		if s.Key == "layout" && v == nil {
			v = s3ds.LayoutObjects
		}
		if s.Store == b.Name && v != nil && !(b.Name == EFS && defaultOfFiles(s.Key, v)) {
			words = append(words, fmt.Sprintf("%s=%v", s.Variable, v))
		}
	}
	return strings.Join(words, " ")
}

// Command is the line that moves the blocks of a repo to where the settings want
// them. What only tunes the store is left out: it is applied at the start after
// the move.
func (b *Blocks) Command() string {
	words := []string{"ipfs-aws datastore migrate --to", b.Name}
	for _, s := range table {
		v := b.Spec[s.Key]
		if s.Key == "layout" && v == nil {
			v = s3ds.LayoutObjects
		}
		needed := s.Identity || slices.Contains([]string{"region", "layout", "regionEndpoint", "pathStyle", "credentialsEndpoint", "journalPath"}, s.Key)
		if s.Store != b.Name || s.Secret || !needed || v == nil {
			continue
		}
		if b.Name != S3 && defaultOfFiles(s.Key, v) || s.Key == "layout" && v == s3ds.LayoutPacks {
			continue
		}
		if on, ok := v.(bool); ok {
			words = append(words, fmt.Sprintf("--%s=%t", s.Flag, on))
			continue
		}
		words = append(words, "--"+s.Flag, quote(fmt.Sprint(v)))
	}
	return strings.Join(words, " ")
}

// defaultOfFiles reports whether a key of a store of files has its default.
func defaultOfFiles(key string, v any) bool {
	return key == "path" && v == "blocks" || key == "shardFunc" && v == shardFunc
}

// quote makes a word that a shell takes as it is.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@%+,", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
