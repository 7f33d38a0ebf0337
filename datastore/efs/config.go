package efs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	flatfs "github.com/ipfs/go-ds-flatfs"
)

// DefaultShardFunc is the shard function that kubo gives new flatfs repos:
// 1,024 directories named by the next-to-last two characters of the key.
const DefaultShardFunc = "/repo/flatfs/shard/v1/next-to-last/2"

// DefaultWorkers is the number of session slots of a Linux NFS 4.1 client
// (nfs.max_session_slots): more concurrent operations would queue in the kernel.
const DefaultWorkers = 64

// MaxWorkers bounds Config.Workers. Each worker may hold one operating system
// thread and two file descriptors.
const MaxWorkers = 1024

// IndexFile is where the index is persisted when Config.IndexPath is empty:
// a file of this name in the store's directory.
const IndexFile = "efs.index"

// minCacheBytes is room for 16 of the largest blocks that bitswap carries (2 MiB).
const minCacheBytes = 32 << 20

// Config is everything there is to choose about a store.
type Config struct {
	// Path is the store's directory. Its parent must exist.
	Path string

	// ShardFunc says which directory a key is in, as flatfs writes it into the
	// file SHARDING. It must be the one an existing store has. Empty:
	// DefaultShardFunc.
	ShardFunc string

	// Workers is how many writes may be under way at once, and as many reads,
	// and as many removals. 0: DefaultWorkers.
	Workers int

	// IndexPath is the file that the index is persisted to. It may be on the
	// task's own disk: one that is lost costs the next Open a walk, no more.
	// Empty: IndexFile in Path.
	IndexPath string

	// NamesDurable says that the file system has committed a creation, rename or
	// removal when it answers, so that directories need not be synced. It is
	// known of NFS and need not be set there; it is for network file systems
	// behind another client, as FUSE, and refused for any that is not a network's.
	NamesDurable bool

	// CachePath is a directory on local disk where blocks that were read are
	// kept, and CacheBytes how much it may hold. The directory belongs to the
	// store: it must be empty or a read cache already, and it is emptied by
	// Open. Both or neither must be set; neither means no read cache.
	CachePath  string
	CacheBytes int64

	unhashed bool // for tests whose values are not what their names promise
}

// Validate reports everything that is wrong with the configuration, at once.
func (c Config) Validate() error {
	_, _, err := c.complete()
	return err
}

// complete fills in the defaults.
func (c Config) complete() (Config, *flatfs.ShardIdV1, error) {
	var errs []error
	bad := func(setting, format string, args ...any) {
		errs = append(errs, fmt.Errorf("efs: setting %q: %s", setting, fmt.Sprintf(format, args...)))
	}

	if c.Path == "" {
		bad("path", "is empty; it must be the directory of the blocks")
	} else {
		c.Path = filepath.Clean(c.Path)
	}
	if c.ShardFunc == "" {
		c.ShardFunc = DefaultShardFunc
	}
	shardFunc, err := parseShardFunc(c.ShardFunc)
	if err != nil {
		bad("shardFunc", "%v", err)
	}
	switch {
	case c.Workers == 0:
		c.Workers = DefaultWorkers
	case c.Workers < 0 || c.Workers > MaxWorkers:
		bad("workers", "is %d; it must be between 1 and %d (default %d)", c.Workers, MaxWorkers, DefaultWorkers)
	}
	if c.IndexPath == "" {
		c.IndexPath = filepath.Join(c.Path, IndexFile)
	} else {
		c.IndexPath = filepath.Clean(c.IndexPath)
		if rel, ok := within(c.Path, c.IndexPath); ok && rel != IndexFile {
			bad("indexPath", "is %s, inside the store; leave it out, or choose a file elsewhere", c.IndexPath)
		}
	}
	switch {
	case c.CachePath == "" && c.CacheBytes != 0:
		bad("cachePath", "is missing while cacheSize is %d; set both, or neither", c.CacheBytes)
	case c.CachePath != "" && c.CacheBytes == 0:
		bad("cacheSize", "is missing while cachePath is %s; set both, or neither", c.CachePath)
	case c.CachePath != "" && c.CacheBytes < minCacheBytes:
		bad("cacheSize", "is %d bytes; it must be at least %d (32 MiB)", c.CacheBytes, minCacheBytes)
	}
	if c.CachePath != "" {
		c.CachePath = filepath.Clean(c.CachePath)
		_, inside := within(c.Path, c.CachePath)
		_, around := within(c.CachePath, c.Path)
		if inside || around {
			bad("cachePath", "is %s, which overlaps the store in %s; choose a directory on local disk", c.CachePath, c.Path)
		}
		if _, ok := within(c.CachePath, c.IndexPath); ok {
			bad("indexPath", "is %s, inside the read cache in %s, which is emptied at every start; choose another file", c.IndexPath, c.CachePath)
		}
	}
	return c, shardFunc, errors.Join(errs...)
}

// parseShardFunc refuses, beyond what flatfs refuses, the parameters with which
// flatfs panics (negative) or cannot list its own blocks (zero).
func parseShardFunc(s string) (*flatfs.ShardIdV1, error) {
	const want = "it must be /repo/flatfs/shard/v1/ followed by prefix, suffix or next-to-last, and /1 to /32"
	trimmed := strings.TrimSpace(s)
	param, err := strconv.Atoi(trimmed[strings.LastIndexByte(trimmed, '/')+1:])
	if err != nil || param < 1 || param > 32 {
		return nil, fmt.Errorf("is %q; %s", s, want)
	}
	f, err := flatfs.ParseShardFunc(trimmed)
	if err != nil {
		return nil, fmt.Errorf("is %q: %v; %s", s, err, want)
	}
	return f, nil
}

// within reports whether path is dir or beneath it, and how it is called from dir.
func within(dir, path string) (rel string, ok bool) {
	rel, err := filepath.Rel(dir, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return "", false
	}
	return rel, true
}
