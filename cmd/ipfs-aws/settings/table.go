package settings

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	logging "github.com/ipfs/go-log/v2"
	"github.com/ipfs/kubo/config"

	"github.com/ipfs-aws/ipfs-aws/internal/environ"
)

// The blockstores a repo can have.
const (
	Flatfs = "flatfs" // one file per block, writes synced
	EFS    = "efs"    // the same layout, for a network file system
	S3     = "s3"     // blocks in an S3 bucket
)

// Blockstores are all of them.
var Blockstores = []string{Flatfs, EFS, S3}

// The variables that other packages name.
const (
	Blockstore    = "IPFS_BLOCKSTORE"
	HealthAddress = "IPFS_HEALTH_ADDRESS"
	SwarmKey      = "IPFS_SWARM_KEY"
	Profile       = "IPFS_PROFILE"
	GC            = "IPFS_GC"
	StorageMax    = "IPFS_STORAGE_MAX"
	TakeOver      = "IPFS_S3_TAKE_OVER"
	// GatewayURL is where the gateway can be reached by IPFS peers.
	GatewayURL = "IPFS_GATEWAY_URL"
	// CloudWatchStack names the stack whose metrics go to the log.
	CloudWatchStack = "IPFS_CLOUDWATCH_STACK"

	// ConfigPrefix begins the variables that set a key of kubo's config.
	ConfigPrefix = "IPFS_CONFIG_"
	// ConfigJSON sets many keys at once.
	ConfigJSON = ConfigPrefix + "JSON"
)

// DefaultHealthAddress is where the health listener is in a container.
const DefaultHealthAddress = "127.0.0.1:8099"

// Setting is one setting.
type Setting struct {
	Variable string // in the environment
	Flag     string // of init and datastore migrate, without dashes; "" for none
	Store    string // the blockstore it is about; "" for the node
	Key      string // in that store's part of Datastore.Spec
	Identity bool   // which data it is: may not change under a repo
	Secret   bool   // may be given in a file, and is shown nowhere

	Meaning  string // for people
	Default  string
	Accepted string

	kind  kind          // of a store's setting
	check environ.Check // of the node's settings
}

// kind is what a value of a store's setting is in JSON.
type kind int

const (
	text kind = iota
	whole
	truth
)

// value converts what a user wrote.
func (k kind) value(s string) (v any, want string) {
	switch k {
	case whole:
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, "must be a whole number"
		}
		return n, ""
	case truth:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return nil, "must be true or false"
		}
		return b, ""
	}
	return s, ""
}

// Table lists every setting, in the order in which people read about them.
func Table() []Setting { return slices.Clone(table) }

var table = []Setting{
	{Variable: "IPFS_PATH", Meaning: "the repo's folder", Default: "`~/.ipfs`", Accepted: "a path"},
	{Variable: Blockstore, Flag: "blockstore", Meaning: "where blocks are kept: one file per block (`flatfs`), the same for a network file system (`efs`), or in a bucket (`s3`)",
		Default: "the repo's; a new one: `init` makes `flatfs`, `container` makes `efs`", Accepted: "`flatfs`, `efs`, `s3`"},
	{Variable: Profile, Meaning: "kubo's configuration profiles for a new repo, separated by commas; read by `container`", Default: "none",
		Accepted: "[profiles](https://github.com/ipfs/kubo/blob/v0.43.1/docs/config.md#profiles) that leave the datastore alone", check: isProfiles},
	{Variable: SwarmKey, Secret: true, Meaning: "the key of a private network; read by `container`, which also switches off what works in the public network only", Default: "the public network",
		Accepted: "a libp2p key, version 1: three lines"},
	{Variable: HealthAddress, Meaning: "where `/livez`, `/readyz` and `/metrics` are served; also `Plugins.Plugins.health.Config.Address`",
		Default: "none; `container`: `" + DefaultHealthAddress + "`", Accepted: "`host:port`", check: environ.IsHostPort},
	{Variable: GatewayURL, Meaning: "the public URL of the gateway: the node announces it, and peers that are not connected to it fetch blocks there over HTTPS; sets the `…/tls/http` address in `Addresses.AppendAnnounce`. " +
		"With several nodes behind one URL, each must have all content", Default: "the config's", Accepted: "`https://host` or `https://host:port`", check: isGatewayURL},
	{Variable: CloudWatchStack, Meaning: "a name: once a minute the metrics that you have to act on are written to the log for CloudWatch, in its embedded metric format, with this name as dimension `Stack`", Default: "none",
		Accepted: "a name"},
	{Variable: StorageMax, Meaning: "how much the repo may hold, with `Datastore.StorageMax`: `repo stat`, the sidecar's free space and `IPFS_GC` go by it", Default: "the config's; a new repo: 10 GB with `flatfs`, else no limit",
		Accepted: "bytes, such as `500GB` or `2TiB`", check: isBytes},
	{Variable: GC, Meaning: "collect garbage while the daemon runs: when the repo has 90 % (`Datastore.StorageGCWatermark`) of `IPFS_STORAGE_MAX`, looked at every `Datastore.GCPeriod` (1h); without a limit once a day. The same as `--enable-gc`", Default: "`off`",
		Accepted: "`on`, `off`", check: environ.IsOneOf("on", "off")},
	{Variable: "IPFS_GC_MIN_AGE", Meaning: "garbage collection keeps blocks that were written, or found present by an add, import or pin, within this time", Default: "`1h`", Accepted: "a duration", check: environ.IsDuration},
	{Variable: "IPFS_PIN_STALL", Meaning: "a pin that gets no new block for so long fails, and names what is missing", Default: "`1m50s`", Accepted: "a duration; `0` for never", check: environ.IsDuration},
	{Variable: TakeOver, Meaning: "take the prefix of the bucket over from a node that was not stopped in order: that one writes nothing more. For one start; also `init --take-over`", Default: "`false`: the start is refused, and names that node",
		Accepted: "`true`, `false`, `1`, `0`", check: isTruth},
	{Variable: "IPFS_TELEMETRY", Meaning: "kubo's telemetry; also `Plugins.Plugins.telemetry.Config.Mode`", Default: "`auto`: on only with `Plugins.Plugins.telemetry.Config.Endpoint`", Accepted: "`on`, `auto`, `off`",
		check: environ.IsOneOf("on", "auto", "off")},
	{Variable: "IPFS_WAIT_REPO_LOCK", Meaning: "how long to wait for another process to leave the repo", Default: "not at all", Accepted: "a duration; `0` for ever", check: environ.IsDuration},
	{Variable: "IPFS_LOGGING", Meaning: "level of the log, as `GOLOG_LOG_LEVEL`, which wins", Default: "`error`", Accepted: "`debug`, `info`, `warn`, `error`, …", check: isLogLevel},
	{Variable: "IPFS_LOGGING_FMT", Meaning: "format of the log, as `GOLOG_LOG_FMT`, which wins", Default: "`nocolor`; `color` on a terminal", Accepted: "`color`, `nocolor`, `json`",
		check: environ.IsOneOf("color", "nocolor", "json")},
	{Variable: "IPFS_FD_MAX", Meaning: "how many files may be open", Default: "kubo's", Accepted: "a whole number", check: environ.IsPositive},
	{Variable: "IPFS_DIST_PATH", Meaning: "where migrations of repos before version 16 are fetched from", Default: "kubo's", Accepted: "an IPFS path"},
	{Variable: "IPFS_HTTP_ROUTERS", Meaning: "HTTP routers instead of all others", Default: "the config's", Accepted: "URLs, separated by commas or blanks"},
	{Variable: "IPFS_HTTP_ROUTERS_FILTER_PROTOCOLS", Meaning: "protocols that HTTP routers are asked for", Default: "kubo's", Accepted: "names, separated by blanks"},
	{Variable: "IPFS_CONTENT_BLOCKING_DISABLE", Meaning: "switches denylists off", Default: "they are obeyed", Accepted: "anything"},
	{Variable: "IPFS_NS_MAP", Meaning: "names that are resolved without asking anybody", Default: "none", Accepted: "`name:path`, separated by commas"},
	{Variable: "IPFS_REUSEPORT", Meaning: "whether outgoing connections use the port that is listened on", Default: "`true`", Accepted: "`true`, `false`"},
	{Variable: "IPFS_FUSE_DEBUG", Meaning: "logs every FUSE operation", Default: "off", Accepted: "anything"},
	{Variable: "IPFS_PROF", Meaning: "writes profiles to the working directory", Default: "off", Accepted: "anything"},

	s3("IPFS_S3_BUCKET", "bucket", "bucket", text, identity, "the bucket that holds the blocks; required", "", "an existing bucket: name, access point alias or ARN"),
	s3("IPFS_S3_REGION", "region", "region", text, 0, "its region", "the repo's; a new one: that of the AWS environment, or `us-east-1` with an endpoint", "a region name"),
	s3("IPFS_S3_PREFIX", "prefix", "rootDirectory", text, identity, "folder inside the bucket; one node per prefix", "the bucket's root", "a path without `..`"),
	s3("IPFS_S3_LAYOUT", "layout", "layout", text, 0, "how blocks lie in the bucket: many per object, or one, as go-ds-s3 does", "the repo's; a new one: `packs`", "`packs`, `objects`"),
	s3("IPFS_S3_ENDPOINT", "endpoint", "regionEndpoint", text, 0, "an S3-compatible server, or a VPC endpoint", "AWS", "`http(s)://host[:port]`, without user and password"),
	s3("IPFS_S3_PATH_STYLE", "path-style", "pathStyle", truth, 0, "bucket in the path instead of the host name", "`true` with an endpoint, else `false`", "`true`, `false`"),
	s3("IPFS_S3_ACCESS_KEY", "", "accessKey", text, secret, "static credentials; better left out", "those in the config, if any, else of the AWS environment or task role", "both or neither"),
	s3("IPFS_S3_SECRET_KEY", "", "secretKey", text, secret, "the same", "", ""),
	s3("IPFS_S3_SESSION_TOKEN", "", "sessionToken", text, secret, "third part of temporary credentials", "none", "with the two above"),
	s3("IPFS_S3_CREDENTIALS_ENDPOINT", "credentials-endpoint", "credentialsEndpoint", text, 0, "URL to get credentials from, as ECS serves them", "those of the AWS environment or task role", "a URL, without static credentials"),
	s3("IPFS_S3_SSE", "sse", "sse", text, 0, "encryption of new objects", "the bucket's", "`AES256`, `aws:kms`, `aws:kms:dsse`"),
	s3("IPFS_S3_SSE_KMS_KEY_ID", "sse-kms-key-id", "sseKMSKeyId", text, 0, "the key for `aws:kms`", "the account's key for S3", "a key ID, alias or ARN"),
	s3("IPFS_S3_STORAGE_CLASS", "storage-class", "storageClass", text, 0, "class of new objects", "`STANDARD`", "a class that can be read at once"),
	s3("IPFS_S3_DURABILITY", "durability", "durability", text, 0, "when a write returns: when the journal on the disk has it, or when the bucket has it", "`journal`", "`journal`, `bucket`"),
	s3("IPFS_S3_JOURNAL_PATH", "journal-path", "journalPath", text, 0, "folder of blocks that wait to be uploaded, and of the id of this node. **Keep it**; when it changes, move what is in it", "the repo's, else `s3ds/journal` in it", "a folder of its own"),
	s3("IPFS_S3_JOURNAL_SIZE", "journal-size", "journalSize", text, 0, "bytes that may wait there; beyond it writers wait", "`1GiB`", "two packs or more"),
	s3("IPFS_S3_INDEX_PATH", "index-path", "indexPath", text, 0, "folder of the index; it is made anew from the bucket if it is lost", "the repo's, else `s3ds/index` in it", "a folder of its own"),
	s3("IPFS_S3_CACHE_PATH", "cache-path", "cachePath", text, 0, "folder of what was read", "the repo's, else `s3ds/cache` in it", "a folder of its own"),
	s3("IPFS_S3_CACHE_SIZE", "cache-size", "cacheSize", text, 0, "bytes kept there, also across restarts", "`4GiB`", "4 MiB or more, or `0` for none"),
	s3("IPFS_S3_MEMORY", "memory", "memory", text, 0, "bytes of memory for reads and compaction; the index takes up to 64 MiB besides", "`256MiB`", "2 × (pack size + 16 MiB) or more"),
	s3("IPFS_S3_PACK_SIZE", "pack-size", "packSize", text, 0, "size at which a pack is complete", "`32MiB`", "1 MiB to 1 GiB"),
	s3("IPFS_S3_SEAL_AGE", "seal-age", "sealAge", text, 0, "how long a block waits for others before it is uploaded", "`60s`", "a positive duration"),
	s3("IPFS_S3_READ_WINDOW", "read-window", "readWindow", text, 0, "largest request of a sequential reader", "`16MiB`", "1 MiB to 16 MiB"),
	s3("IPFS_S3_UPLOADS", "uploads", "uploads", whole, 0, "packs that are uploaded at the same time", "4", "1 to 64"),
	s3("IPFS_S3_DOWNLOADS", "downloads", "downloads", whole, 0, "reads of packs that are under way at the same time", "64", "1 to 1000"),
	s3("IPFS_S3_WORKERS", "workers", "workers", whole, 0, "objects being read or written at the same time, at most", "128", "1 to 1000"),
	s3("IPFS_S3_MAX_ATTEMPTS", "max-attempts", "maxAttempts", whole, 0, "how often a request is sent, at most", "5", "1 to 100"),
	s3("IPFS_S3_REQUEST_TIMEOUT", "request-timeout", "requestTimeout", text, 0, "how long an attempt may make no progress", "`30s`", "a positive duration"),

	efs("IPFS_EFS_PATH", "path", "path", text, identity, "the directory of the blocks; relative to the repo", "the repo's; a new one: `blocks`", "a path"),
	efs("IPFS_EFS_SHARD_FUNC", "shard-func", "shardFunc", text, identity, "which directory a block is in", "the repo's; a new one: next-to-last/2", "a shard function of flatfs"),
	efs("IPFS_EFS_WORKERS", "workers", "workers", whole, 0, "writes, reads and removals under way at once, each", "64", "1 to 1024"),
	efs("IPFS_EFS_NAMES_DURABLE", "names-durable", "namesDurable", truth, 0, "`true`: the file system has committed a rename when it answers. Known of NFS; for network file systems behind FUSE; refused on a local disk", "`false`", "`true`, `false`"),
	efs("IPFS_EFS_INDEX_PATH", "index-path", "indexPath", text, 0, "file for the persisted index; it may be on the task's own disk", "`efs.index` beside the blocks", "an absolute path"),
	efs("IPFS_EFS_CACHE_PATH", "cache-path", "cachePath", text, 0, "folder on a local disk for blocks that were read", "no cache", "an absolute path, with the next one"),
	efs("IPFS_EFS_CACHE_SIZE", "cache-size", "cacheSize", text, 0, "bytes kept there", "no cache", "32 MiB or more"),

	{Variable: "IPFS_FLATFS_PATH", Store: Flatfs, Flag: "path", Key: "path", Identity: true, Meaning: "the directory of the blocks; relative to the repo", Default: "the repo's; a new one: `blocks`", Accepted: "a path"},
	{Variable: "IPFS_FLATFS_SHARD_FUNC", Store: Flatfs, Flag: "shard-func", Key: "shardFunc", Identity: true, Meaning: "which directory a block is in", Default: "the repo's; a new one: next-to-last/2", Accepted: "a shard function of flatfs"},
}

const (
	identity = 1 << iota
	secret
)

func s3(variable, flag, key string, k kind, is int, meaning, def, accepted string) Setting {
	return Setting{Variable: variable, Flag: flag, Store: S3, Key: key, kind: k, Identity: is&identity != 0, Secret: is&secret != 0, Meaning: meaning, Default: def, Accepted: accepted}
}

func efs(variable, flag, key string, k kind, is int, meaning, def, accepted string) Setting {
	s := s3(variable, flag, key, k, is, meaning, def, accepted)
	s.Store = EFS
	return s
}

// Names are all variables, sorted, with the _FILE forms of secrets, and without
// those of kubo's config keys, which are any number.
func Names() []string {
	names := []string{ConfigJSON, ConfigJSON + environ.FileSuffix}
	for _, s := range table {
		names = append(names, s.Variable)
		if s.Secret {
			names = append(names, s.Variable+environ.FileSuffix)
		}
	}
	slices.Sort(names)
	return names
}

// Flag is one flag of the commands that choose a blockstore: its name without
// dashes, and what it means for each blockstore that has it.
type Flag struct{ Name, Help string }

// Flags are the flags that say the same as the variables of the blockstores, but
// for secrets, which are never given in arguments, and for the choice itself.
func Flags() []Flag {
	var flags []Flag
	at := map[string]int{}
	for _, s := range table {
		if s.Flag == "" || s.Store == "" {
			continue
		}
		help := fmt.Sprintf("%s: %s (%s).", s.Store, plain(s.Meaning), plain(s.Accepted))
		if s.Default != "" {
			help += " Default: " + plain(s.Default) + "."
		}
		if i, ok := at[s.Flag]; ok {
			if s.Store != Flatfs {
				flags[i].Help += " " + help
			}
			continue
		}
		at[s.Flag] = len(flags)
		flags = append(flags, Flag{s.Flag, help})
	}
	return flags
}

func isTruth(v string) string {
	if _, err := strconv.ParseBool(v); err != nil {
		return "must be true or false"
	}
	return ""
}

// plain takes the marks of Markdown out.
func plain(s string) string { return strings.NewReplacer("`", "", "**", "").Replace(s) }

func isProfiles(v string) string {
	for name := range strings.SplitSeq(v, ",") {
		p, ok := config.Profiles[name]
		if ok && p.InitOnly {
			return "must be profiles that leave the datastore alone, and " + name + " does not: say where blocks are kept with " + Blockstore
		}
		if !ok {
			want := "must be profiles of kubo, separated by commas; there is none named " + strconv.Quote(name)
			var known []string
			for k := range config.Profiles {
				known = append(known, k)
			}
			slices.Sort(known)
			if meant, ok := environ.Nearest(name, known); ok {
				return want + "; did you mean " + meant + "?"
			}
			return want
		}
	}
	return ""
}

// isBytes accepts a size above zero.
func isBytes(v string) string {
	if n, err := humanize.ParseBytes(v); err != nil || n == 0 {
		return "must be a size in bytes, such as 500GB or 2TiB"
	}
	return ""
}

// isLogLevel accepts what GOLOG_LOG_LEVEL does: a level, and system=level.
func isLogLevel(v string) string {
	for part := range strings.SplitSeq(v, ",") {
		level := part[strings.IndexByte(part, '=')+1:]
		if _, err := logging.Parse(level); err != nil {
			return "must be debug, info, warn, error, dpanic, panic or fatal, also as system=level, separated by commas"
		}
	}
	return ""
}
