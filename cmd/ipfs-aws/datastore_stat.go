package main

import (
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	humanize "github.com/dustin/go-humanize"
	ds "github.com/ipfs/go-datastore"
	cmds "github.com/ipfs/go-ipfs-cmds"
	oldcmds "github.com/ipfs/kubo/commands"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/loader"
	"golang.org/x/sys/unix"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/internal/version"
	efsplugin "github.com/ipfs-aws/ipfs-aws/plugin/efs"
	s3plugin "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
	"github.com/ipfs-aws/ipfs-aws/plugin/swap"
	tieredplugin "github.com/ipfs-aws/ipfs-aws/plugin/tiered"
)

// datastoreStat is the answer of `datastore stat`. Sizes are in bytes; what
// counts work begins when the store was opened.
type datastoreStat struct {
	storeStat            // of the store, or of both together
	Hot, Cold *storeStat `json:",omitempty"` // of a tiered one

	StorageMax uint64         // of the config; 0 for no limit
	Migration  *migrationStat `json:",omitempty"` // the one that is under way, or whose old store is still there
	Problems   []string       // each with what to do; empty when all is well
	Summary    string         // which blockstore serves, where, how full, what is in flight
}

// storeStat describes one store. Empty is what it does not have.
type storeStat struct {
	Blockstore string // flatfs, efs, s3 or tiered; else the datastore's type
	Path       string `json:",omitempty"` // of files

	Layout string `json:",omitempty"`
	Bucket string `json:",omitempty"`
	Prefix string `json:",omitempty"`
	Region string `json:",omitempty"`

	Blocks, Bytes int64         // all; 0 and -1 where that is not known without listing them
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

	problems []string
}

// migrationStat is how far a migration has come.
type migrationStat struct {
	From, To            string
	Phase               string // copying, tiered, or switched: see plugin/swap
	AtWork              bool   // in this daemon, now
	Stage               string `json:",omitempty"` // of the one that is at work, as the numbers
	Blocks, TotalBlocks int64  `json:",omitempty"`
	Bytes, TotalBytes   int64  `json:",omitempty"`
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
	ID, Host      string
	Epoch         uint64
	ProvenSeconds float64 // since the bucket said last that the prefix is this node's
	Replaced      string  `json:",omitempty"` // by whom
	Unknown       string  `json:",omitempty"` // why the bucket cannot be asked
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
The first line says it all, for every blockstore; the others are about a
bucket, and about each store of a tiered one.
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
	out := &datastoreStat{Problems: []string{}}
	if most := conf.Datastore.StorageMax; most != "" {
		if out.StorageMax, err = humanize.ParseBytes(most); err != nil {
			return nil, fmt.Errorf("config Datastore.StorageMax: %w", err)
		}
	}
	usage := func() (uint64, error) { return n.Repo.GetStorageUsage(n.Context()) }
	spec := settings.BlocksStore(conf.Datastore.Spec)
	if spec == nil { // one for the blocks and everything else
		spec = conf.Datastore.Spec
	}
	if spec["type"] == tieredplugin.TypeName {
		err = out.ofBoth(n, spec, usage)
	} else {
		var one *storeStat
		if one, err = statStore(n, spec, usage); err == nil {
			out.storeStat, out.Problems = *one, append(out.Problems, one.problems...)
		}
	}
	if err != nil {
		return nil, err
	}
	if out.Migration, err = statMigration(n.Repo.Path()); err != nil {
		return nil, err
	}
	out.Summary = out.summary()
	return out, nil
}

// ofBoth describes a tiered store.
func (o *datastoreStat) ofBoth(n *core.IpfsNode, spec map[string]any, usage func() (uint64, error)) error {
	root := n.Repo.Path()
	both, ok := tieredplugin.Opened(root)
	if live, open := swap.Opened(root); open && live.Both() != nil { // it was put together while the daemon runs
		both, ok = live.Both(), true
	}
	if !ok {
		return notOpen(root)
	}
	o.storeStat = storeStat{Blockstore: tieredplugin.TypeName, Requests: []requestStat{}}
	for _, tier := range []struct {
		name  string
		to    **storeStat
		store ds.Datastore
	}{{"hot", &o.Hot, both.Hot()}, {"cold", &o.Cold, both.Cold()}} {
		child, _ := spec[tier.name].(map[string]any)
		s, err := statStore(n, innermost(child), func() (uint64, error) { return ds.DiskUsage(n.Context(), tier.store) })
		if err != nil {
			return fmt.Errorf("the %s store: %w", tier.name, err)
		}
		*tier.to = s
		o.InFlight += s.InFlight
		o.InFlightBytes += s.InFlightBytes
		o.Dollars += s.Dollars
		o.Requests = addRequests(o.Requests, s.Requests)
		for _, p := range s.problems {
			o.Problems = append(o.Problems, tier.name+" store: "+p)
		}
	}
	used, err := usage()
	o.Bytes = int64(used)
	return err
}

// addRequests is the sum of two lists by operation.
func addRequests(all, more []requestStat) []requestStat {
	for _, r := range more {
		i := slices.IndexFunc(all, func(a requestStat) bool { return a.Operation == r.Operation })
		if i < 0 {
			all = append(all, r)
			continue
		}
		a := &all[i]
		a.Requests, a.Failures, a.Throttles = a.Requests+r.Requests, a.Failures+r.Failures, a.Throttles+r.Throttles
		a.SentBytes, a.ReceivedBytes, a.Dollars = a.SentBytes+r.SentBytes, a.ReceivedBytes+r.ReceivedBytes, a.Dollars+r.Dollars
	}
	return all
}

// statStore describes one store of an open node. usage is how large it is, for one that does not say more.
func statStore(n *core.IpfsNode, spec map[string]any, usage func() (uint64, error)) (*storeStat, error) {
	root := n.Repo.Path()
	out := &storeStat{Blockstore: describeSpec(spec), Bytes: -1, Requests: []requestStat{}}
	switch spec["type"] {
	case s3ds.Type:
		if err := out.ofBucket(n, spec); err != nil {
			return nil, err
		}
	case efsplugin.TypeName:
		out.Blockstore = settings.EFS
		store, ok := efsplugin.Opened(root, spec)
		if !ok {
			return nil, notOpen(root)
		}
		s, err := store.Stat()
		if err != nil {
			return nil, err
		}
		out.Blocks, out.Bytes, out.InFlight = s.Blocks, s.Bytes, int64(s.Writing+s.Removing)
		if s.Damaged > 0 {
			out.problems = append(out.problems, fmt.Sprintf("%d times a file was read whose bytes do not hash to its name: `ipfs-aws repo verify` names the blocks; put them again", s.Damaged))
		}
	default:
		used, err := usage()
		if err != nil {
			return nil, err
		}
		out.Bytes = int64(used)
	}
	if path, _ := spec["path"].(string); path != "" {
		out.Path = inside(root, path)
		var fs unix.Statfs_t
		if err := unix.Statfs(out.Path, &fs); err != nil {
			return nil, fmt.Errorf("ask the file system of %s how much is free: %w", out.Path, err)
		}
		out.FreeBytes = fs.Bavail * uint64(fs.Bsize)
	}
	return out, nil
}

// ofBucket describes a store in a bucket.
func (o *storeStat) ofBucket(n *core.IpfsNode, spec map[string]any) error {
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

// statMigration is what the record of a repo says, nil if there is nothing to say.
func statMigration(root string) (*migrationStat, error) {
	record, err := swap.Load(root)
	if err != nil || record == nil || record.Phase == swap.Done {
		return nil, err
	}
	m := &migrationStat{From: called(root, record.From), To: called(root, record.To), Phase: record.Phase}
	if live, ok := swap.Opened(root); ok {
		if p := live.Progress(); p != nil {
			m.AtWork, m.Stage, m.Blocks, m.Bytes, m.TotalBlocks, m.TotalBytes = true, p.Stage, p.Blocks, p.Bytes, p.TotalBlocks, p.TotalBytes
		}
	}
	return m, nil
}

func (m *migrationStat) String() string {
	switch {
	case m.Phase == swap.Switched:
		return fmt.Sprintf("the old store, %s, is still there: `ipfs-aws datastore migrate --%s` removes it", m.From, deleteOption)
	case m.AtWork:
		done := migrateProgress{Stage: m.Stage, Blocks: m.Blocks, Bytes: m.Bytes, TotalBlocks: m.TotalBlocks}
		return fmt.Sprintf("migration from %s to %s: %s", m.From, m.To, done.amount())
	}
	return fmt.Sprintf("a migration from %s to %s was broken off: the same `ipfs-aws datastore migrate` goes on", m.From, m.To)
}

// summary is the one line.
func (o *datastoreStat) summary() string {
	var s string
	if o.Hot == nil {
		s = o.storeStat.summary(o.StorageMax)
	} else {
		s = fmt.Sprintf("%s, %s: hot %s; cold %s", o.Blockstore, sizeOf(o.Bytes, o.StorageMax), o.Hot.summary(0), o.Cold.summary(0))
	}
	if o.Migration != nil {
		s += "; " + o.Migration.String()
	}
	return s
}

// summary says which store it is, where, how full of most bytes, and what is in flight.
func (o *storeStat) summary(most uint64) string {
	var where, full, flight string
	size := sizeOf(o.Bytes, most)
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
	if o.Owner != nil && o.Owner.Replaced != "" {
		return fmt.Sprintf("REPLACED, this node writes nothing more: %s, %s: %s; %s", o.Blockstore, where, full, flight)
	}
	return fmt.Sprintf("%s, %s: %s; %s", o.Blockstore, where, full, flight)
}

// sizeOf is how many bytes of how many, which is 0 for no limit.
func sizeOf(n int64, most uint64) string {
	if most == 0 {
		return bytesText(n)
	}
	return bytesText(n) + " of " + humanize.Bytes(most) // as it is written in the config
}

// place is bucket and prefix.
func (o *storeStat) place() string {
	if o.Prefix == "" {
		return o.Bucket
	}
	return o.Bucket + "/" + o.Prefix
}

func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func notOpen(root string) error {
	return fmt.Errorf("the store of the repo at %s is not open: the node is shutting down", root)
}

func (o *storeStat) describe(s s3ds.Stat) {
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
	o.Owner = &ownerStat{ID: s.Owner.ID, Host: s.Owner.Host, Epoch: s.Owner.Epoch, ProvenSeconds: s.Owner.Proven.Seconds()}
	if s.Owner.Replaced != nil {
		o.Owner.Replaced = s.Owner.Replaced.Error()
	}
	if s.Owner.Unknown != nil {
		o.Owner.Unknown = s.Owner.Unknown.Error()
	}

	problem := func(is bool, format string, args ...any) {
		if is {
			o.problems = append(o.problems, fmt.Sprintf(format, args...))
		}
	}
	problem(s.Owner.Replaced != nil, "%v", s.Owner.Replaced)
	problem(s.Owner.Unknown != nil, "the bucket cannot be asked who owns the prefix, since %s: writes are acknowledged when the journal has them, and nothing is deleted: %v",
		s.Owner.Since.UTC().Format(time.RFC3339), s.Owner.Unknown)
	problem(s.Unhealthy != nil, "uploads fail, and are tried again: %v", s.Unhealthy)
	problem(s.StuckSegments > 0, "%d segments of the journal are damaged and stay where they are; what is good in them was saved", s.StuckSegments)
	problem(len(s.Recovery.Damaged) > 0, "%d parts of the journal were damaged at the start: look at the disk; the originals are kept as *.damaged", len(s.Recovery.Damaged))
	problem(s.DamagedBlocks > 0, "%d blocks are damaged or lost: put them again, or let `ipfs-aws datastore verify` name them", s.DamagedBlocks)
	problem(s.GatherFailure != nil, "inner nodes could not be gathered into a pack of their own, which is tried again: %v", s.GatherFailure)
	problem(s.CompactFailure != nil, "compaction failed, and is tried again: %v", s.CompactFailure)
	problem(s.Index.UnfitPacks > 0, "%d packs are gone, cut or cannot be read: `ipfs-aws datastore verify` names them; put their blocks again, or restore the objects and verify again", s.Index.UnfitPacks)
	problem(s.SkippedPacks > 0, "%d packs cannot be compacted: `ipfs-aws datastore verify` tells why", s.SkippedPacks)
	problem(s.Reads.CacheWriteFailures > 0, "%d pieces could not be written to the cache: look at the space under cachePath", s.Reads.CacheWriteFailures)
}

func (o *storeStat) count(s s3ds.Stats) {
	for _, op := range slices.Sorted(maps.Keys(s.Ops)) {
		c := s.Ops[op]
		if c.Requests == 0 {
			continue
		}
		o.Requests = append(o.Requests, requestStat{string(op), c.Requests, c.Failures, c.Throttles, c.BytesSent, c.BytesReceived, c.USD})
		o.Dollars += c.USD
	}
	if s.Mismatches > 0 {
		o.problems = append(o.problems, fmt.Sprintf("%d times bytes were read that did not match their hash; those that a second read did not heal are errors in the log", s.Mismatches))
	}
}

func printStat(_ *cmds.Request, w io.Writer, s *datastoreStat) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, name+":\t"+format+"\n", args...) }
	line("Blockstore", "%s", s.Summary)
	if s.Hot == nil {
		s.print(line)
	}
	for name, tier := range s.tiers() {
		line(name, "%s", tier.summary(0))
		tier.print(func(what, format string, args ...any) { line(name+", "+what, format, args...) })
	}
	if s.Migration != nil {
		line("Migration", "%s", s.Migration)
	}
	for _, p := range s.Problems {
		line("Problem", "%s", p)
	}
	return t.Flush()
}

// tiers yields the stores of a tiered one.
func (o *datastoreStat) tiers() iter.Seq2[string, *storeStat] {
	return func(yield func(string, *storeStat) bool) {
		_ = o.Hot == nil || yield("Hot", o.Hot) && yield("Cold", o.Cold)
	}
}

// print writes lines about a bucket.
func (s *storeStat) print(line func(name, format string, args ...any)) {
	size := bytesText
	if s.Bucket == "" {
		return
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
