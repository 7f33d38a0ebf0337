package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"
	"github.com/ipfs/kubo/repo/fsrepo"

	"github.com/ipfs-aws/ipfs-aws/datastore/migrate"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/plugin/efs"
	s3plugin "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
)

// placement says where the blocks of a repo are, and where the rest is.
type placement struct {
	blocks map[string]any // the store that is mounted at /blocks
	root   map[string]any // the one at /, nil if there is none
	whole  bool           // there is one store for both, which is blocks
}

var blocksPrefix = ds.NewKey("/blocks")

// placed takes a Datastore.Spec apart.
func placed(spec map[string]any) (placement, error) {
	if spec["type"] != "mount" {
		if spec == nil {
			return placement{}, errors.New("config Datastore.Spec is missing")
		}
		return placement{blocks: spec, root: spec, whole: true}, nil
	}
	var p placement
	mounts, _ := spec["mounts"].([]any)
	for _, m := range mounts {
		m, ok := m.(map[string]any)
		if !ok {
			return p, errors.New("config Datastore.Spec: a mount is no object")
		}
		switch m["mountpoint"] {
		case "/blocks":
			p.blocks = m
		case "/":
			p.root = m
		}
	}
	if p.blocks == nil {
		p.blocks, p.whole = p.root, true
	}
	if p.root == nil {
		return p, errors.New("config Datastore.Spec has no mount at /")
	}
	return p, nil
}

// withBlocks is a Datastore.Spec with another store for the blocks.
func withBlocks(spec, blocks map[string]any) map[string]any {
	blocks = maps.Clone(blocks)
	blocks["mountpoint"] = "/blocks"
	if spec["type"] != "mount" {
		root := maps.Clone(spec)
		root["mountpoint"] = "/"
		return map[string]any{"type": "mount", "mounts": []any{blocks, root}}
	}
	out := maps.Clone(spec)
	mounts := []any{blocks}
	old, _ := spec["mounts"].([]any)
	for _, m := range old {
		if m, ok := m.(map[string]any); ok && m["mountpoint"] == "/blocks" {
			continue
		}
		mounts = append(mounts, m)
	}
	out["mounts"] = mounts
	return out
}

// isS3 reports whether a store is a bucket.
func isS3(spec map[string]any) bool { return innermost(spec)["type"] == s3ds.Type }

// isFiles reports whether a store is a folder of files in flatfs's layout.
func isFiles(spec map[string]any) bool {
	t := innermost(spec)["type"]
	return t == "flatfs" || t == efs.TypeName
}

// identity is the same for two stores that have the same blocks in the same place, whatever their settings.
func identity(root string, spec map[string]any) string {
	inner := innermost(spec)
	text := func(key string) string { s, _ := inner[key].(string); return s }
	switch {
	case isS3(spec):
		endpoint := strings.TrimSuffix(text("regionEndpoint"), "/")
		return strings.Join([]string{"s3", endpoint, text("bucket"), strings.Trim(path.Join("/", text("rootDirectory")), "/")}, " ")
	case text("path") != "":
		return "folder " + realPath(inside(root, text("path")))
	}
	b, err := fsrepo.AnyDatastoreConfig(inner)
	if err != nil {
		return fmt.Sprint(inner)
	}
	return b.DiskSpec().String()
}

// inside is a path of a spec, which is relative to the repo.
func inside(root, path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(root, path)
	}
	return filepath.Clean(path)
}

// realPath resolves links as far as the path exists.
func realPath(path string) string {
	for dir, rest := path, ""; ; {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return path
		}
		dir, rest = parent, filepath.Join(filepath.Base(dir), rest)
	}
}

// called is how people call a store.
func called(root string, spec map[string]any) string {
	inner := innermost(spec)
	text := func(key string) string { s, _ := inner[key].(string); return s }
	switch {
	case isS3(spec):
		return "s3://" + path.Join(text("bucket"), text("rootDirectory"))
	case text("path") != "":
		return describeSpec(spec) + " in " + inside(root, text("path"))
	}
	return describeSpec(spec)
}

// ownFolders gives a store in S3 folders of its own for journal, index and cache, if the usual ones are, or were, another store's.
func ownFolders(root string, spec, source map[string]any) error {
	if spec["journalPath"] != nil || spec["indexPath"] != nil || spec["cachePath"] != nil {
		return nil
	}
	if !isS3(source) {
		_, err := os.Stat(filepath.Join(root, "s3ds"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return fmt.Errorf("look for folders of another store: %w", err)
		}
	}
	sum := sha256.Sum256([]byte(identity(root, spec)))
	dir := "s3ds-" + hex.EncodeToString(sum[:4])
	spec["journalPath"], spec["indexPath"], spec["cachePath"] = dir+"/journal", dir+"/index", dir+"/cache"
	return nil
}

// blockStore is an open store of blocks.
type blockStore struct {
	name  string
	spec  map[string]any
	store ds.Batching
	s3    s3ds.Store   // nil if it is none
	base  ds.Datastore // what is closed, and for a whole one also what holds the rest
}

// migrationMemory is what reads and compaction of a store in S3 may take while it is only migrated, in bytes: blocks are read in their
// order and once.
const migrationMemory = 128 << 20

// openBlocks opens a store for a migration that nobody else uses: a bucket without a cache on the disk.
func openBlocks(ctx context.Context, root string, spec map[string]any, whole bool, progress func(s3ds.Progress)) (*blockStore, error) {
	b := &blockStore{name: called(root, spec), spec: spec}
	if isS3(spec) && !whole {
		c, err := s3plugin.Parse(innermost(spec))
		if err != nil {
			return nil, err
		}
		c.CacheSize = s3ds.NoCache
		if c.Memory == 0 {
			c.Memory = max(migrationMemory, 4*c.PackSize)
		}
		if b.s3, err = s3ds.OpenIn(ctx, c, root, progress); err != nil {
			return nil, err
		}
		b.store, b.base = b.s3, b.s3
		return b, nil
	}
	config, err := fsrepo.AnyDatastoreConfig(spec)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", b.name, err)
	}
	store, err := config.Create(root)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", b.name, err)
	}
	b.store, b.base = store, store
	if whole {
		b.store = namespace.Wrap(store, blocksPrefix)
	}
	return b, nil
}

func (b *blockStore) Close() error {
	if err := b.base.Close(); err != nil {
		return fmt.Errorf("close %s: %w", b.name, err)
	}
	return nil
}

// blocks is the store as a migration sees it.
func (b *blockStore) blocks() migrate.Datastore {
	d := migrate.Datastore{Store: b.store, Damaged: damagedBlock}
	if p, ok := b.s3.(*s3ds.Packed); ok {
		d.Stored = p.Stored
	}
	return d
}

func damagedBlock(err error) bool {
	return errors.Is(err, s3ds.ErrCorrupt) || errors.Is(err, s3ds.ErrLost)
}

// costOf adds up what stores in S3 have cost since they were opened.
func costOf(stores ...s3ds.Store) func() migrate.Cost {
	return func() (sum migrate.Cost) {
		for _, s := range stores {
			if s == nil {
				continue
			}
			for _, c := range s.Stats().Ops {
				sum.Requests += c.Requests
				sum.USD += c.USD
			}
		}
		return sum
	}
}

// drain waits until everything is in the bucket, if the store is one.
func drain(ctx context.Context, s s3ds.Store) error {
	if p, ok := s.(*s3ds.Packed); ok {
		return p.Drain(ctx)
	}
	return nil
}

// removeStore deletes a store that the repo does not use any more.
func removeStore(ctx context.Context, root string, spec map[string]any, whole bool, progress func(removed int64)) error {
	inner := innermost(spec)
	switch {
	case whole:
		return emptyStore(ctx, root, spec, progress)
	case isS3(spec):
		c, err := s3plugin.Parse(inner)
		if err != nil {
			return err
		}
		return s3ds.Destroy(ctx, c, root, progress)
	}
	path, _ := inner["path"].(string)
	if path == "" {
		return fmt.Errorf("%s has no path: remove it by hand", called(root, spec))
	}
	path = inside(root, path)
	if isFiles(spec) {
		if _, err := os.Stat(filepath.Join(path, "SHARDING")); errors.Is(err, fs.ErrNotExist) {
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return fmt.Errorf("%s has no file SHARDING, so it is no store of blocks: look at it, and remove it by hand", path)
		}
	}
	// SHARDING goes last, so that a removal that was broken off may go on.
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var removed int64
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.Name() == "SHARDING" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
			return err
		}
		removed++
		progress(removed)
	}
	if err := os.Remove(filepath.Join(path, "SHARDING")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if index, _ := inner["indexPath"].(string); index != "" {
		if err := os.Remove(index); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// A folder that something is mounted on stays, empty.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !isMounted(err) {
		return err
	}
	return nil
}

// emptyStore deletes the blocks from a store that holds the rest of the repo as well.
func emptyStore(ctx context.Context, root string, spec map[string]any, progress func(int64)) (err error) {
	b, err := openBlocks(ctx, root, spec, true, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return deleteAll(ctx, b.blocks(), progress)
}
