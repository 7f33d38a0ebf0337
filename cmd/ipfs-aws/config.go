package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/ipfs/boxo/files"
	cmds "github.com/ipfs/go-ipfs-cmds"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/core/commands"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
)

// extendConfig makes two things safe that are not upstream: a profile cannot
// change where an existing repo keeps its blocks, and a datastore's static
// credentials are never shown.
func extendConfig(cmd *cmds.Command) {
	hideCredentials(cmd)
	hideCredentials(cmd.Subcommands["show"])
	keepCredentials(cmd.Subcommands["replace"])
	apply := cmd.Subcommands["profile"].Subcommands["apply"]
	guardProfile(apply)
	hideCredentials(apply)
}

// guardProfile refuses a profile that would change Datastore.Spec: upstream
// writes the new spec over the old one, and the repo then no longer opens, or
// opens empty. --dry-run still shows the difference.
//
// upstream: profiles
func guardProfile(apply *cmds.Command) {
	run := apply.Run
	apply.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		if dry, _ := req.Options["dry-run"].(bool); !dry {
			root, err := repoRoot(req)
			if err != nil {
				return err
			}
			if err := checkProfile(root, req.Arguments[0]); err != nil {
				return err
			}
		}
		return run(req, res, env)
	}
}

// checkProfile reports whether applying the named profile would leave
// Datastore.Spec as it is. Unknown profiles and unreadable configs are left to
// kubo's own error.
func checkProfile(root, name string) error {
	profile, ok := config.Profiles[name]
	if !ok {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(root, config.DefaultConfigFile))
	if err != nil {
		return nil
	}
	var before, after config.Config
	if json.Unmarshal(b, &before) != nil || json.Unmarshal(b, &after) != nil {
		return nil
	}
	if err := profile.Transform(&after); err != nil {
		return fmt.Errorf("config profile apply %s: %w", name, err)
	}
	if sameSpec(before.Datastore.Spec, after.Datastore.Spec) {
		return nil
	}
	return fmt.Errorf("config profile apply %s: refused, nothing was changed: it would replace the datastore of the repo at %s (%s) by another (%s) and leave the blocks behind: "+
		"`ipfs-aws datastore migrate` moves the blocks to another store; for a datastore that only a profile names make a new repo (IPFS_PATH=NEW ipfs-aws init --profile %s), "+
		"and bring the content there with a backup (`ipfs-aws datastore migrate --to cars`, then `--from`)",
		name, root, describeSpec(before.Datastore.Spec), describeSpec(after.Datastore.Spec), name)
}

// sameSpec compares two specs as they would stand in the config file: a
// profile builds ints where the file gives float64.
func sameSpec(a, b map[string]any) bool {
	return reflect.DeepEqual(normalise(a), normalise(b))
}

func normalise(spec map[string]any) any {
	b, err := json.Marshal(spec)
	if err != nil {
		return spec
	}
	var v any
	if json.Unmarshal(b, &v) != nil {
		return spec
	}
	return v
}

// describeSpec names the type of the store that holds the blocks.
func describeSpec(spec map[string]any) string {
	if store := settings.BlocksStore(spec); store != nil {
		spec = store
	}
	if t, ok := innermost(spec)["type"].(string); ok {
		return t
	}
	return "unknown type"
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

// credentialKeys are the settings of a datastore spec that are secrets, as
// go-ds-s3 names them.
var credentialKeys = []string{"secretKey", "sessionToken"}

// hideCredentials takes a datastore's secrets out of what a command answers,
// as kubo does with the private key.
//
// upstream: config-answers
func hideCredentials(cmd *cmds.Command) {
	run := cmd.Run
	cmd.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		return run(req, &hidingEmitter{res}, env)
	}
}

type hidingEmitter struct{ cmds.ResponseEmitter }

func (e *hidingEmitter) Emit(v any) error {
	if s, ok := v.(cmds.Single); ok {
		return e.ResponseEmitter.Emit(cmds.Single{Value: hidden(s.Value)})
	}
	return e.ResponseEmitter.Emit(hidden(v))
}

// hidden returns the value without secrets; it knows the answers of the
// config commands.
func hidden(v any) any {
	switch v := v.(type) {
	case *map[string]any:
		m := withoutCredentials(*v).(map[string]any)
		return &m
	case *commands.ConfigUpdateOutput:
		return &commands.ConfigUpdateOutput{
			OldCfg: withoutCredentials(v.OldCfg).(map[string]any),
			NewCfg: withoutCredentials(v.NewCfg).(map[string]any),
		}
	case *commands.ConfigField:
		last := v.Key[strings.LastIndexByte(v.Key, '.')+1:]
		if isCredential(last) {
			return &commands.ConfigField{Key: v.Key, Value: "(not shown)"}
		}
		return &commands.ConfigField{Key: v.Key, Value: withoutCredentials(v.Value)}
	}
	return v
}

func withoutCredentials(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, val := range v {
			if !isCredential(k) {
				out[k] = withoutCredentials(val)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, val := range v {
			out[i] = withoutCredentials(val)
		}
		return out
	}
	return v
}

func isCredential(key string) bool {
	for _, k := range credentialKeys {
		if strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}

// keepCredentials lets the output of `config show`, edited, be given to
// `config replace`: secrets that were not shown are kept from the present
// config as long as the store is the same bucket.
func keepCredentials(replace *cmds.Command) {
	run := replace.Run
	replace.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		root, err := repoRoot(req)
		if err != nil {
			return err
		}
		old, err := os.ReadFile(filepath.Join(root, config.DefaultConfigFile))
		if err != nil {
			return fmt.Errorf("config replace: read the present config: %w", err)
		}
		entries := req.Files.Entries()
		if !entries.Next() {
			return run(req, res, env)
		}
		f := files.FileFromEntry(entries)
		if f == nil {
			return run(req, res, env)
		}
		next, err := io.ReadAll(f)
		if err != nil {
			return fmt.Errorf("config replace: read the new config: %w", err)
		}
		req.Files = files.NewSliceDirectory([]files.DirEntry{
			files.FileEntry(entries.Name(), files.NewBytesFile(mergeCredentials(old, next))),
		})
		return run(req, res, env)
	}
}

// mergeCredentials returns next with the secrets of old's blocks store, where
// both name the same bucket and next has none. What does not parse is returned
// as it is, for kubo to complain about.
func mergeCredentials(old, next []byte) []byte {
	var o, n map[string]any
	if json.Unmarshal(old, &o) != nil || json.Unmarshal(next, &n) != nil {
		return next
	}
	from, to := configBlocksStore(o), configBlocksStore(n)
	if from == nil || to == nil || from["bucket"] == nil || from["bucket"] != to["bucket"] {
		return next
	}
	changed := false
	for _, k := range credentialKeys {
		if v, ok := from[k]; ok && to[k] == nil && to["accessKey"] == from["accessKey"] {
			to[k], changed = v, true
		}
	}
	if !changed {
		return next
	}
	var buf bytes.Buffer
	if json.NewEncoder(&buf).Encode(n) != nil {
		return next
	}
	return buf.Bytes()
}

func configBlocksStore(cfg map[string]any) map[string]any {
	ds, _ := cfg["Datastore"].(map[string]any)
	spec, _ := ds["Spec"].(map[string]any)
	return settings.BlocksStore(spec)
}

// configValue is one value in the config of a repo, or nil.
func configValue(root string, path ...string) any {
	var at any
	conf, err := settings.ReadConfig(root)
	if err != nil {
		return nil
	}
	at = conf
	for _, key := range path {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = m[key]
	}
	return at
}
