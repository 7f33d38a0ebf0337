package s3ds

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	s3bucket "github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/s3"
)

// Type is the name of this datastore in a kubo config ("type": "s3ds"); the same as go-ds-s3's.
const Type = "s3ds"

// DefaultWorkers is how many requests are in flight at most: bitswap alone serves wants with 128 workers.
const DefaultWorkers = 128

// maxWorkers keeps one node under S3's 3,500 writes a second per prefix even where a write takes only 250 ms.
const maxWorkers = 1000

// Secret is a string that does not print.
type Secret = s3bucket.Secret

// Config holds the settings of a Datastore. The names in ParseConfig's map are given in brackets; those of go-ds-s3
// 0.11 are unchanged. It prints without its secrets.
type Config struct {
	Region         string // [region] required
	Bucket         string // [bucket] required
	RootDirectory  string // [rootDirectory] prefix of all object names, without a slash at either end; "" for none
	RegionEndpoint string // [regionEndpoint] URL of an S3-compatible server; "" for AWS
	PathStyle      *bool  // [pathStyle] bucket in the path instead of the host name; nil: as RegionEndpoint is set

	AccessKey           string // [accessKey] static credentials; all empty: the default chain
	SecretKey           Secret // [secretKey]
	SessionToken        Secret // [sessionToken]
	CredentialsEndpoint string // [credentialsEndpoint] URL to get credentials from, instead of the default chain

	Workers        int           // [workers] requests in flight, at most; 0: DefaultWorkers
	MaxAttempts    int           // [maxAttempts] how often a request is sent, at most; 0: s3bucket.DefaultMaxAttempts
	RequestTimeout time.Duration // [requestTimeout] without progress, per attempt; 0: s3bucket.DefaultRequestTimeout

	SSE          string // [sse] "AES256", "aws:kms", "aws:kms:dsse"; "": the bucket's default
	SSEKMSKeyID  string // [sseKMSKeyId]
	StorageClass string // [storageClass] "": STANDARD

	Layout string // [layout] LayoutObjects or LayoutPacks; "": LayoutObjects, as every repo of go-ds-s3 has

	// What follows is about packs; SealAge, JournalSize, Uploads and Durability are for LayoutPacks only. Zero values are defaults, see
	// packDefaults. Sizes are in bytes; paths that are relative start at the repo's folder.
	PackSize    int64         // [packSize] at which a pack is complete
	SealAge     time.Duration // [sealAge] how long a block waits in the journal for others, at most
	JournalPath string        // [journalPath]
	JournalSize int64         // [journalSize] of blocks that wait to be uploaded; beyond it writers wait
	IndexPath   string        // [indexPath]
	CachePath   string        // [cachePath]
	CacheSize   int64         // [cacheSize] on disk; NoCache for none
	ReadWindow  int64         // [readWindow] the largest request of a sequential reader
	Uploads     int           // [uploads] packs that are uploaded at the same time
	Downloads   int           // [downloads] reads of packs that are under way at the same time
	Memory      int64         // [memory] for reads and compaction; the index takes up to 64 MiB besides
	Durability  string        // [durability] DurableInJournal or DurableInBucket

	// TakeOver has the store take the prefix over from another node that was not stopped in order. It is no setting
	// of a repo: it is for one start, by the word of a person who knows that the other node is dead, or has to leave.
	TakeOver bool
	// Log, if it is not nil, gets a line when the prefix changes hands, and when the index was brought in step with
	// the bucket. It is no setting either.
	Log func(line string) `json:"-"`
}

// Validate returns everything that is wrong with c, one error per setting, joined; nil if nothing is. It asks nothing of
// the network.
func (c Config) Validate() error {
	var errs []error
	if err := c.options().Validate(); err != nil {
		errs = append(errs, err)
	}
	if slices.Contains(strings.Split(c.RootDirectory, "/"), "..") {
		errs = append(errs, fmt.Errorf("rootDirectory: %q: use a path without \"..\"", c.RootDirectory))
	}
	if c.Workers < 0 || c.Workers > maxWorkers {
		errs = append(errs, fmt.Errorf("workers: %d: use 1 to %d", c.Workers, maxWorkers))
	}
	errs = append(errs, c.validatePacks()...)
	return errors.Join(errs...)
}

// DiskSpec is the identity of the data: what must not change under a repo. Credentials, workers and endpoints may. With objects
// it is word for word what go-ds-s3 0.11 says, so that its repos open; packs add the layout, so that it refuses theirs.
func (c Config) DiskSpec() map[string]any {
	spec := map[string]any{"region": c.Region, "bucket": c.Bucket, "rootDirectory": c.RootDirectory}
	if c.Layout == LayoutPacks {
		spec["layout"] = c.Layout
	}
	return spec
}

func (c Config) options() s3bucket.Options {
	return s3bucket.Options{
		Bucket: c.Bucket, Region: c.Region, Endpoint: c.RegionEndpoint, PathStyle: c.PathStyle,
		AccessKey: c.AccessKey, SecretKey: c.SecretKey, SessionToken: c.SessionToken, CredentialsEndpoint: c.CredentialsEndpoint,
		SSE: c.SSE, SSEKMSKeyID: c.SSEKMSKeyID, StorageClass: c.StorageClass,
		MaxAttempts: c.MaxAttempts, RequestTimeout: c.RequestTimeout,
		MaxConns: max(s3bucket.DefaultMaxConns, 2*c.Workers),
	}
}

// settings are the accepted names, each with how to store its value. "type" and "mountpoint" belong to kubo.
var settings = map[string]func(*Config, any) error{
	"type":                nil,
	"mountpoint":          nil,
	"region":              text(func(c *Config) *string { return &c.Region }),
	"bucket":              text(func(c *Config) *string { return &c.Bucket }),
	"rootDirectory":       text(func(c *Config) *string { return &c.RootDirectory }),
	"regionEndpoint":      text(func(c *Config) *string { return &c.RegionEndpoint }),
	"accessKey":           text(func(c *Config) *string { return &c.AccessKey }),
	"secretKey":           text(func(c *Config) *Secret { return &c.SecretKey }),
	"sessionToken":        text(func(c *Config) *Secret { return &c.SessionToken }),
	"credentialsEndpoint": text(func(c *Config) *string { return &c.CredentialsEndpoint }),
	"sse":                 text(func(c *Config) *string { return &c.SSE }),
	"sseKMSKeyId":         text(func(c *Config) *string { return &c.SSEKMSKeyID }),
	"storageClass":        text(func(c *Config) *string { return &c.StorageClass }),
	"workers":             count(func(c *Config) *int { return &c.Workers }),
	"maxAttempts":         count(func(c *Config) *int { return &c.MaxAttempts }),
	"pathStyle": func(c *Config, v any) error {
		b, ok := v.(bool)
		if !ok {
			return fmt.Errorf("a %T: use true or false", v)
		}
		c.PathStyle = &b
		return nil
	},
	"requestTimeout": duration(func(c *Config) *time.Duration { return &c.RequestTimeout }),
	"layout":         text(func(c *Config) *string { return &c.Layout }),
	"packSize":       size(func(c *Config) *int64 { return &c.PackSize }),
	"sealAge":        duration(func(c *Config) *time.Duration { return &c.SealAge }),
	"journalPath":    text(func(c *Config) *string { return &c.JournalPath }),
	"journalSize":    size(func(c *Config) *int64 { return &c.JournalSize }),
	"indexPath":      text(func(c *Config) *string { return &c.IndexPath }),
	"cachePath":      text(func(c *Config) *string { return &c.CachePath }),
	"cacheSize": func(c *Config, v any) error {
		if v == "0" || v == 0 || v == float64(0) {
			c.CacheSize = NoCache
			return nil
		}
		return size(func(c *Config) *int64 { return &c.CacheSize })(c, v)
	},
	"readWindow": size(func(c *Config) *int64 { return &c.ReadWindow }),
	"uploads":    count(func(c *Config) *int { return &c.Uploads }),
	"downloads":  count(func(c *Config) *int { return &c.Downloads }),
	"memory":     size(func(c *Config) *int64 { return &c.Memory }),
	"durability": text(func(c *Config) *string { return &c.Durability }),
}

// Settings are the names that ParseConfig accepts, sorted.
func Settings() []string {
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ParseConfig reads the settings of a datastore from the map that kubo's config holds, and validates them. A name it
// does not know is an error, for a setting that is misspelt is a setting that is ignored. All problems are returned
// at once.
func ParseConfig(m map[string]any) (Config, error) {
	var c Config
	var errs []error
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		set, known := settings[name]
		switch {
		case !known:
			errs = append(errs, fmt.Errorf("%s: no such setting: use one of %s", name, strings.Join(Settings(), ", ")))
		case set != nil:
			if err := set(&c, m[name]); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	if t, ok := m["type"]; ok && t != Type {
		errs = append(errs, fmt.Errorf("type: %v: must be %q", t, Type))
	}
	if err := c.Validate(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, fmt.Errorf("s3ds settings: %w", err)
	}
	return c, nil
}

func text[T ~string](field func(*Config) *T) func(*Config, any) error {
	return func(c *Config, v any) error {
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("a %T: use a string", v)
		}
		*field(c) = T(s)
		return nil
	}
}

func duration(field func(*Config) *time.Duration) func(*Config, any) error {
	return func(c *Config, v any) error {
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("a %T: use a duration in quotes, for instance \"30s\"", v)
		}
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q: use a positive duration, for instance \"30s\"", s)
		}
		*field(c) = d
		return nil
	}
}

// count reads a positive whole number: a float64 when it comes from JSON, an int when it comes from Go.
func count(field func(*Config) *int) func(*Config, any) error {
	return func(c *Config, v any) error {
		var f float64
		switch v := v.(type) {
		case float64:
			f = v
		case int:
			f = float64(v)
		default:
			return fmt.Errorf("a %T: use a whole number", v)
		}
		if f != math.Trunc(f) || f < 1 || f > math.MaxInt32 {
			return fmt.Errorf("%v: use a whole number from 1 on", f)
		}
		*field(c) = int(f)
		return nil
	}
}
