package s3ds

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/journal"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/span"
)

// Values of Config.Layout and Config.Durability.
const (
	LayoutObjects = "objects" // one object per block, as go-ds-s3
	LayoutPacks   = "packs"   // many blocks per object; objects that are there already are read where they are

	DurableInJournal = "journal" // a write returns when the journal on the local disk has it
	DurableInBucket  = "bucket"  // a write returns when the bucket has it
)

// NoCache as Config.CacheSize means that nothing is kept on the local disk of what was read.
const NoCache = -1

// Bounds of settings, in bytes where they are sizes.
const (
	minPackSize = 1 << 20 // below it, PUTs cost more than a year of storage
	maxPackSize = 1 << 30 // a fifth of what S3 takes in one PUT; larger ones gain nothing and are retried as a whole
	minCache    = 4 << 20
	minWindow   = 1 << 20
	maxWindow   = 16 << 20
	maxUploads  = 64
)

// packDefaults are the settings of packs that are not set.
var packDefaults = Config{
	PackSize:    journal.DefaultSegmentBytes,
	SealAge:     journal.DefaultSealAge,
	JournalPath: filepath.Join("s3ds", "journal"),
	JournalSize: journal.DefaultMaxBytes,
	IndexPath:   filepath.Join("s3ds", "index"),
	CachePath:   filepath.Join("s3ds", "cache"),
	CacheSize:   4 << 30, // a fifth of the disk that comes with a Fargate task
	ReadWindow:  span.DefaultMaxWindow,
	Uploads:     4, // 4 connections of 90 MB/s: more than a Fargate task can send
	Downloads:   64,
	Memory:      256 << 20,
	Durability:  DurableInJournal,
}

// withPackDefaults fills in what is not set, and makes paths absolute.
func (c Config) withPackDefaults(repo string) Config {
	d := packDefaults
	orSize := func(v *int64, def int64) {
		if *v == 0 {
			*v = def
		}
	}
	orText := func(v *string, def string) {
		if *v == "" {
			*v = def
		}
	}
	orSize(&c.PackSize, d.PackSize)
	orSize(&c.JournalSize, max(d.JournalSize, 2*c.PackSize))
	orSize(&c.CacheSize, d.CacheSize)
	orSize(&c.ReadWindow, d.ReadWindow)
	orSize(&c.Memory, max(d.Memory, c.minMemory()))
	orText(&c.Durability, d.Durability)
	if c.Layout != LayoutPacks {
		c.Durability = DurableInBucket // what an earlier layout left in the journal included
	}
	if c.SealAge == 0 {
		c.SealAge = d.SealAge
	}
	if c.Uploads == 0 {
		c.Uploads = d.Uploads
	}
	if c.Downloads == 0 {
		c.Downloads = d.Downloads
	}
	for path, def := range map[*string]string{&c.JournalPath: d.JournalPath, &c.IndexPath: d.IndexPath, &c.CachePath: d.CachePath} {
		orText(path, def)
		if !filepath.IsAbs(*path) {
			*path = filepath.Join(repo, *path)
		}
	}
	return c
}

// minMemory is the least that works: compaction holds a pack that it makes, with its index and the section that it reads; reads
// have as much, and at least what span needs.
func (c Config) minMemory() int64 { return 2 * max(c.PackSize+(16<<20), 2*span.MinMemoryBytes) }

// MappedMemory is how many bytes a store with this configuration takes outside of
// Go's heap, at most: the read memory.
func (c Config) MappedMemory() int64 { return c.withPackDefaults("").readMemory() }

// readMemory is what reads may take: all but what compaction needs.
func (c Config) readMemory() int64 { return c.Memory - c.PackSize - (16 << 20) }

// validatePacks returns what is wrong with the settings of packs.
func (c Config) validatePacks() []error {
	var errs []error
	bad := func(name string, v any, use string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %v: use %s", name, v, fmt.Sprintf(use, args...)))
	}
	switch c.Layout {
	case "", LayoutObjects:
		if c.onlyForPacks() {
			errs = append(errs, errors.New("sealAge, journalSize, uploads, durability: only with layout \"packs\": set it, or remove them; "+
				"layout objects returns from a write when the bucket has it"))
		}
	case LayoutPacks:
	default:
		bad("layout", strconv.Quote(c.Layout), "%q or %q", LayoutObjects, LayoutPacks)
		return errs
	}
	set := c.withPackDefaults("/")
	if set.PackSize < minPackSize || set.PackSize > maxPackSize {
		bad("packSize", c.PackSize, "%d (1 MiB) to %d (1 GiB)", minPackSize, maxPackSize)
	}
	if c.SealAge < 0 {
		bad("sealAge", c.SealAge, "a positive duration")
	}
	if set.JournalSize < 2*set.PackSize {
		bad("journalSize", c.JournalSize, "two packs or more, %d", 2*set.PackSize)
	}
	if set.CacheSize != NoCache && set.CacheSize < minCache {
		bad("cacheSize", c.CacheSize, "%d (4 MiB) or more, or 0 for none", minCache)
	}
	if set.ReadWindow < minWindow || set.ReadWindow > maxWindow {
		bad("readWindow", c.ReadWindow, "%d (1 MiB) to %d (16 MiB)", minWindow, maxWindow)
	}
	if set.Uploads < 1 || set.Uploads > maxUploads {
		bad("uploads", c.Uploads, "1 to %d", maxUploads)
	}
	if set.Downloads < 1 || set.Downloads > maxWorkers {
		bad("downloads", c.Downloads, "1 to %d", maxWorkers)
	}
	if set.Memory < set.minMemory() {
		bad("memory", c.Memory, "%d or more with this packSize", set.minMemory())
	}
	if set.Durability != DurableInJournal && set.Durability != DurableInBucket {
		bad("durability", strconv.Quote(c.Durability), "%q or %q", DurableInJournal, DurableInBucket)
	}
	seen := map[string]string{}
	for _, p := range []struct{ name, path string }{{"journalPath", set.JournalPath}, {"indexPath", set.IndexPath}, {"cachePath", set.CachePath}} {
		if other, ok := seen[p.path]; ok {
			bad(p.name, strconv.Quote(p.path), "a folder of its own: %s has this one", other)
		}
		seen[p.path] = p.name
	}
	return errs
}

// onlyForPacks reports whether anything is set that has no meaning in layout objects. The other settings of packs are about those that are there.
func (c Config) onlyForPacks() bool {
	return c.SealAge != 0 || c.JournalSize != 0 || c.Uploads != 0 || c.Durability != ""
}

// units of sizes in quotes.
var units = []struct {
	name  string
	bytes float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}}

// size reads a number of bytes: a number, or a text such as "32MiB".
func size(field func(*Config) *int64) func(*Config, any) error {
	const use = "use a number of bytes, or a text such as \"32MiB\""
	return func(c *Config, v any) error {
		var f float64
		switch v := v.(type) {
		case float64:
			f = v
		case int:
			f = float64(v)
		case string:
			number, unit := v, 1.0
			for _, u := range units {
				if n, ok := strings.CutSuffix(v, u.name); ok {
					number, unit = n, u.bytes
					break
				}
			}
			n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if err != nil {
				return fmt.Errorf("%q: %s", v, use)
			}
			f = n * unit
		default:
			return fmt.Errorf("a %T: %s", v, use)
		}
		if math.IsNaN(f) || f < 1 || f > 1<<62 || f != math.Trunc(f) {
			return fmt.Errorf("%v: %s, more than 0", v, use)
		}
		*field(c) = int64(f)
		return nil
	}
}

// writeWait is how long a write waits for room in the journal, or for the bucket: long enough for a service that restarts,
// shorter than what a user takes for a node that hangs.
const writeWait = 2 * time.Minute
