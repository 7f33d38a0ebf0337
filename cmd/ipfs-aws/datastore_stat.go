package main

import (
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	humanize "github.com/dustin/go-humanize"
	cmds "github.com/ipfs/go-ipfs-cmds"
	oldcmds "github.com/ipfs/kubo/commands"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/loader"
	"golang.org/x/sys/unix"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
	"github.com/ipfs-aws/ipfs-aws/datastore/efs"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/internal/version"
	efsplugin "github.com/ipfs-aws/ipfs-aws/plugin/efs"
	s3plugin "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
)

// datastoreStat is the answer of `datastore stat`. Sizes are in bytes; what
// counts work begins when the store was opened. Empty is what a blockstore does
// not have.
type datastoreStat struct {
	Blockstore string // flatfs, efs or s3; else the datastore's type
	Path       string `json:",omitempty"` // of files

	Layout string `json:",omitempty"`
	Bucket string `json:",omitempty"`
	Prefix string `json:",omitempty"`
	Region string `json:",omitempty"`

	Blocks, Bytes int64         // all; 0 and -1 where that is not known without listing them
	StorageMax    uint64        // of the config; 0 for no limit
	FreeBytes     uint64        `json:",omitempty"` // of the file system that files are on
	InFlight      int64         // blocks that are on their way: not uploaded, or not acknowledged, yet
	InFlightBytes int64         `json:",omitempty"`
	Packs         *packsStat    `json:",omitempty"`
	Loose         *amount       `json:",omitempty"` // blocks in objects of their own
	Journal       *journalStat  `json:",omitempty"`
	Reads         *readsStat    `json:",omitempty"`
	Nodes         *nodesStat    `json:",omitempty"`
	Compaction    *tidyStat     `json:",omitempty"`
	Owner         *ownerStat    `json:",omitempty"`
	Requests      []requestStat // by operation, those that were sent
	Dollars       float64       // price of these requests, without storage and transfer
	Problems      []string      // each with what to do; empty when all is well
	Summary       string        // which blockstore serves, where, how full, what is in flight
}

type amount struct{ Blocks, Bytes int64 }

type packsStat struct {
	Objects, ObjectBytes  int64
	LiveBlocks, LiveBytes int64
	DeadBytes             int64
	ByLiveQuarter         [4]int64 // packs of which up to a quarter, a half, three quarters, all is alive
}

type journalStat struct {
	Blocks, Bytes int64
	OldestSeconds float64 // age of the oldest block that is not in the bucket yet
	Uploads       uint64  // packs
	UploadBytes   uint64
	Failures      uint64
}

type readsStat struct {
	Blocks, AskedBytes int64   // that callers asked for
	BucketBytes        int64   // that came from the bucket, read ahead or asked for
	DiskBytes          int64   // that came from the cache on disk
	HitRate            float64 // share of the bytes asked for that the bucket did not have to send; read-ahead that is still unused lowers it
	CacheBytes         int64   // on disk now
	Lookups, Misses    uint64  // that the index answered
}

// nodesStat is about inner nodes of DAGs, which are gathered into packs of
// their own after their upload.
type nodesStat struct {
	Waiting  int    // to be gathered soon
	Gathered uint64 // blocks
	Packs    uint64 // that they went to
}

type tidyStat struct{ RemovedPacks, MergedPacks, WrittenBytes uint64 }

type ownerStat struct {
	ID, Host     string
	Epoch        uint64
	LeaseSeconds float64 // what is left; not positive while nothing is written
}

type requestStat struct {
	Operation                     string
	Requests, Failures, Throttles uint64
	SentBytes, ReceivedBytes      uint64
	Dollars                       float64
}

var datastoreStatCmd = &cmds.Command{
	Helptext: cmds.HelpText{
		Tagline: "Show which blockstore serves, where, how full it is, and what is in flight.",
		ShortDescription: `
The first line says it all, for every blockstore; the others are about a bucket.
Asks nothing of the bucket beside a running daemon; requests and dollars are
those since it started. Without a daemon the store is opened for the command
and closed again, and what that costs is what is shown.

  $ ipfs-aws datastore stat
  $ ipfs-aws datastore stat --json | jq .Dollars
`,
	},
	Options: []cmds.Option{jsonFlag()},
	Run: func(_ *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		ctx, ok := env.(*oldcmds.Context)
		if !ok {
			return fmt.Errorf("datastore stat: the environment of the command is a %T", env)
		}
		if err := hasRepo(ctx.ConfigRoot); err != nil {
			return fmt.Errorf("datastore stat: %w", err)
		}
		n, err := ctx.GetNode()
		if err != nil {
			return err
		}
		out, err := statBlockstore(n)
		if err != nil {
			return fmt.Errorf("datastore stat: %w", err)
		}
		return cmds.EmitOnce(res, out)
	},
	Type:     datastoreStat{},
	Encoders: cmds.EncoderMap{cmds.Text: cmds.MakeTypedEncoder(printStat)},
}

// statBlockstore describes the store that holds the blocks of an open node.
func statBlockstore(n *core.IpfsNode) (*datastoreStat, error) {
	conf, err := n.Repo.Config()
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	spec, root := settings.BlocksStore(conf.Datastore.Spec), n.Repo.Path()
	out := &datastoreStat{Blockstore: describeSpec(conf.Datastore.Spec), Bytes: -1, Problems: []string{}, Requests: []requestStat{}}
	if most := conf.Datastore.StorageMax; most != "" {
		if out.StorageMax, err = humanize.ParseBytes(most); err != nil {
			return nil, fmt.Errorf("config Datastore.StorageMax: %w", err)
		}
	}
	switch spec["type"] {
	case s3ds.Type:
		err = out.ofBucket(n, spec)
	case efsplugin.TypeName:
		out.Blockstore = settings.EFS
		store, ok := efsplugin.Opened(root)
		if !ok {
			return nil, notOpen(root)
		}
		var s efs.Stat
		s, err = store.Stat()
		out.Blocks, out.Bytes, out.InFlight = s.Blocks, s.Bytes, int64(s.Writing+s.Removing)
	default: // one that says no more than how large it is
		var used uint64
		used, err = n.Repo.GetStorageUsage(n.Context())
		out.Bytes = int64(used)
	}
	if err != nil {
		return nil, err
	}
	if path, _ := spec["path"].(string); path != "" {
		out.Path = path
		if !filepath.IsAbs(path) {
			out.Path = filepath.Join(root, path)
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(out.Path, &fs); err != nil {
			return nil, fmt.Errorf("ask the file system of %s how much is free: %w", out.Path, err)
		}
		out.FreeBytes = fs.Bavail * uint64(fs.Bsize)
	}
	out.Summary = out.summary()
	return out, nil
}

// ofBucket describes a store in a bucket.
func (o *datastoreStat) ofBucket(n *core.IpfsNode, spec map[string]any) error {
	c, err := s3plugin.Parse(spec)
	if err != nil {
		return err
	}
	store, ok := s3plugin.Opened(n.Repo.Path(), c)
	if !ok {
		return notOpen(n.Repo.Path())
	}
	o.Blockstore, o.Layout, o.Bucket, o.Prefix, o.Region = settings.S3, s3ds.LayoutObjects, c.Bucket, c.RootDirectory, c.Region
	if c.Layout != "" {
		o.Layout = c.Layout
	}
	if p, ok := store.(*s3ds.Packed); ok {
		s, err := p.Stat(n.Context())
		if err != nil {
			return err
		}
		o.describe(s)
	}
	o.count(store.Stats())
	return nil
}

// summary is the one line.
func (o *datastoreStat) summary() string {
	var where, full, flight string
	size := bytesText(o.Bytes)
	if o.StorageMax > 0 {
		size += " of " + humanize.Bytes(o.StorageMax) // as it is written in the config
	}
	switch {
	case o.Blockstore == settings.S3:
		where = fmt.Sprintf("bucket %s, region %s, layout %s", o.place(), o.Region, o.Layout)
		full = fmt.Sprintf("%d blocks, %s", o.Blocks, size)
		flight = "nothing waits to be uploaded"
		if o.InFlight > 0 {
			flight = fmt.Sprintf("%d blocks, %s, wait to be uploaded", o.InFlight, bytesText(o.InFlightBytes))
		}
		if o.Packs == nil {
			full, flight = "how full is not known without listing it", "nothing waits: a write returns when the bucket has it"
		}
	default:
		where = "files under " + o.Path
		full = fmt.Sprintf("%s, %s free on the disk", size, humanize.IBytes(o.FreeBytes))
		flight = "nothing waits: a write returns when the disk has it"
		if o.Blockstore == settings.EFS {
			full = fmt.Sprintf("%d blocks, %s", o.Blocks, full)
			flight = fmt.Sprintf("%d writes and removals under way", o.InFlight)
		}
		if o.Path == "" {
			where, full = "in the repo", size
		}
	}
	return fmt.Sprintf("%s, %s: %s; %s", o.Blockstore, where, full, flight)
}

// place is bucket and prefix.
func (o *datastoreStat) place() string {
	if o.Prefix == "" {
		return o.Bucket
	}
	return o.Bucket + "/" + o.Prefix
}

func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func notOpen(root string) error {
	return fmt.Errorf("the store of the repo at %s is not open: the node is shutting down", root)
}

func (o *datastoreStat) describe(s s3ds.Stat) {
	o.Blocks, o.Bytes = s.Index.Blocks, s.Index.Bytes
	o.Packs = &packsStat{
		Objects: s.Index.Packs, ObjectBytes: s.Index.PackBytes, LiveBlocks: s.Index.LiveBlocks, LiveBytes: s.Index.LiveBytes,
		DeadBytes: s.Index.DeadBytes, ByLiveQuarter: s.PacksByLive,
	}
	o.Loose = &amount{s.Index.LooseBlocks, s.Index.LooseBytes}
	o.Journal = &journalStat{
		Blocks: s.Index.JournalBlocks, Bytes: s.Index.JournalBytes, Uploads: s.Uploads, UploadBytes: s.UploadedBytes, Failures: s.UploadFailures,
	}
	o.InFlight, o.InFlightBytes = s.Index.JournalBlocks, s.Index.JournalBytes
	if !s.Journal.Oldest.IsZero() {
		o.Journal.OldestSeconds = max(time.Since(s.Journal.Oldest).Seconds(), 0)
	}
	r := s.Reads
	o.Reads = &readsStat{
		Blocks: r.Blocks, AskedBytes: r.BytesAsked, BucketBytes: r.BytesMoved, DiskBytes: r.DiskBytesRead, CacheBytes: r.CacheBytes,
		Lookups: s.Hits + s.Misses, Misses: s.Misses,
	}
	if r.BytesAsked > 0 {
		o.Reads.HitRate = max(0, 1-float64(r.BytesMoved)/float64(r.BytesAsked))
	}
	o.Nodes = &nodesStat{s.NodesWaiting, s.NodesGathered, s.NodePacks}
	o.Compaction = &tidyStat{s.Removed, s.Merged, s.Rewritten}
	o.Owner = &ownerStat{s.Owner.Record.ID, s.Owner.Record.Host, uint64(s.Owner.Record.Epoch), s.Owner.Left.Seconds()}

	problem := func(is bool, format string, args ...any) {
		if is {
			o.Problems = append(o.Problems, fmt.Sprintf(format, args...))
		}
	}
	problem(s.Owner.Replaced, "another node has taken over the prefix: nothing is written any more; stop that node, then restart this one")
	problem(s.Unhealthy != nil, "uploads fail, and are tried again: %v", s.Unhealthy)
	problem(s.StuckSegments > 0, "%d segments of the journal are damaged and stay where they are; what is good in them was saved", s.StuckSegments)
	problem(s.DamagedBlocks > 0, "%d blocks are damaged or lost: put them again, or let `ipfs-aws datastore verify` name them", s.DamagedBlocks)
	problem(s.GatherFailure != nil, "inner nodes could not be gathered into a pack of their own, which is tried again: %v", s.GatherFailure)
	problem(s.CompactFailure != nil, "compaction failed, and is tried again: %v", s.CompactFailure)
	problem(s.UnfitPacks > 0, "%d packs cannot be compacted: `ipfs-aws datastore verify` tells why", s.UnfitPacks)
	problem(s.Reads.CacheWriteFailures > 0, "%d pieces could not be written to the cache: look at the space under cachePath", s.Reads.CacheWriteFailures)
}

func (o *datastoreStat) count(s s3ds.Stats) {
	for _, op := range slices.Sorted(maps.Keys(s.Ops)) {
		c := s.Ops[op]
		if c.Requests == 0 {
			continue
		}
		o.Requests = append(o.Requests, requestStat{string(op), c.Requests, c.Failures, c.Throttles, c.BytesSent, c.BytesReceived, c.USD})
		o.Dollars += c.USD
	}
	if s.Mismatches > 0 {
		o.Problems = append(o.Problems, fmt.Sprintf("%d times bytes were read that did not match their hash; those that a second read did not heal are errors in the log", s.Mismatches))
	}
}

func printStat(_ *cmds.Request, w io.Writer, s *datastoreStat) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, name+":\t"+format+"\n", args...) }
	size := bytesText
	line("Blockstore", "%s", s.Summary)
	if s.Bucket == "" {
		return t.Flush()
	}
	line("Bucket", "%s, layout %s", s.place(), s.Layout)
	if s.Packs == nil {
		line("Blocks", "not known without asking the bucket: `ipfs-aws repo stat` lists it")
	} else {
		line("Blocks", "%d, %s", s.Blocks, size(s.Bytes))
		line("In packs", "%d live, %s; %s dead", s.Packs.LiveBlocks, size(s.Packs.LiveBytes), size(s.Packs.DeadBytes))
		q := s.Packs.ByLiveQuarter
		line("Packs", "%d objects, %s; by live share: %d to 25%%, %d to 50%%, %d to 75%%, %d to 100%%", s.Packs.Objects, size(s.Packs.ObjectBytes), q[0], q[1], q[2], q[3])
		line("Loose objects", "%d, %s", s.Loose.Blocks, size(s.Loose.Bytes))
		line("Journal", "%d blocks, %s wait to be uploaded, the oldest for %.0f s", s.Journal.Blocks, size(s.Journal.Bytes), s.Journal.OldestSeconds)
		line("Uploads", "%d packs, %s; %d failures", s.Journal.Uploads, size(int64(s.Journal.UploadBytes)), s.Journal.Failures)
		line("Reads", "%s asked for, %s from the bucket, %s from the cache on disk; hit rate %.0f%%",
			size(s.Reads.AskedBytes), size(s.Reads.BucketBytes), size(s.Reads.DiskBytes), 100*s.Reads.HitRate)
		line("Cache on disk", "%s", size(s.Reads.CacheBytes))
		line("Index", "%d lookups, %d of blocks that are not here", s.Reads.Lookups, s.Reads.Misses)
		line("Inner nodes", "%d gathered into %d packs, %d wait", s.Nodes.Gathered, s.Nodes.Packs, s.Nodes.Waiting)
		line("Compaction", "%d packs removed, %d merged, %s written", s.Compaction.RemovedPacks, s.Compaction.MergedPacks, size(int64(s.Compaction.WrittenBytes)))
		line("Owner", "node %s on %s, epoch %d", s.Owner.ID, s.Owner.Host, s.Owner.Epoch)
	}
	for _, r := range s.Requests {
		line("Requests "+r.Operation, "%d, $%.6f; %d failed, %d throttled", r.Requests, r.Dollars, r.Failures, r.Throttles)
	}
	line("Dollars", "%.6f since the store was opened, for requests", s.Dollars)
	for _, p := range s.Problems {
		line("Problem", "%s", p)
	}
	return t.Flush()
}

func init() { loader.Preload(startLine{}) }

// startLine is the plugin that tells, in the log of a daemon that starts, what
// the first line of `datastore stat` does.
type startLine struct{}

var _ plugin.PluginDaemonInternal = startLine{}

func (startLine) Name() string                   { return "ipfs-aws-start" }
func (startLine) Version() string                { return version.Version }
func (startLine) Init(*plugin.Environment) error { return nil }
func (startLine) Close() error                   { return nil }

func (startLine) Start(n *core.IpfsNode) error {
	s, err := statBlockstore(n)
	if err != nil { // who asks for blocks will be told as well
		say("Blockstore: it cannot be described: %v", err)
		return nil
	}
	say("Blockstore: %s", s.Summary)
	return nil
}
