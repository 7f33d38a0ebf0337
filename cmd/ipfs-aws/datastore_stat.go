package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	humanize "github.com/dustin/go-humanize"
	cmds "github.com/ipfs/go-ipfs-cmds"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
)

// datastoreStat is the answer of `datastore stat`. Sizes are in bytes; what
// counts work begins when the store was opened.
type datastoreStat struct {
	Layout, Bucket, Prefix string

	Blocks, Bytes int64         // all; with layout objects not known without asking the bucket
	Packs         *packsStat    `json:",omitempty"`
	Loose         *amount       `json:",omitempty"` // blocks in objects of their own
	Journal       *journalStat  `json:",omitempty"`
	Reads         *readsStat    `json:",omitempty"`
	Compaction    *tidyStat     `json:",omitempty"`
	Owner         *ownerStat    `json:",omitempty"`
	Requests      []requestStat // by operation, those that were sent
	Dollars       float64       // price of these requests, without storage and transfer
	Problems      []string      // each with what to do; empty when all is well
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
		Tagline: "Show what the bucket holds, what waits to go there, and what was asked of it.",
		ShortDescription: `
Asks nothing of the bucket beside a running daemon; requests and dollars are
those since it started. Without a daemon the store is opened for the command
and closed again, and what that costs is what is shown.

  $ ipfs-aws datastore stat
  $ ipfs-aws datastore stat --json | jq .Dollars
`,
	},
	Options: []cmds.Option{jsonFlag()},
	Run: func(_ *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		store, c, n, err := s3Store(env)
		if err != nil {
			return fmt.Errorf("datastore stat: %w", err)
		}
		out := &datastoreStat{Layout: s3ds.LayoutObjects, Bucket: c.Bucket, Prefix: c.RootDirectory, Problems: []string{}}
		if p, ok := store.(*s3ds.Packed); ok {
			s, err := p.Stat(n.Context())
			if err != nil {
				return fmt.Errorf("datastore stat: %w", err)
			}
			out.describe(s)
		}
		out.count(store.Stats())
		return cmds.EmitOnce(res, out)
	},
	Type:     datastoreStat{},
	Encoders: cmds.EncoderMap{cmds.Text: cmds.MakeTypedEncoder(printStat)},
}

func (o *datastoreStat) describe(s s3ds.Stat) {
	o.Layout = s3ds.LayoutPacks
	o.Blocks, o.Bytes = s.Index.Blocks, s.Index.Bytes
	o.Packs = &packsStat{
		Objects: s.Index.Packs, ObjectBytes: s.Index.PackBytes, LiveBlocks: s.Index.LiveBlocks, LiveBytes: s.Index.LiveBytes,
		DeadBytes: s.Index.DeadBytes, ByLiveQuarter: s.PacksByLive,
	}
	o.Loose = &amount{s.Index.LooseBlocks, s.Index.LooseBytes}
	o.Journal = &journalStat{
		Blocks: s.Index.JournalBlocks, Bytes: s.Index.JournalBytes, Uploads: s.Uploads, UploadBytes: s.UploadedBytes, Failures: s.UploadFailures,
	}
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
	problem(s.CompactFailure != nil, "compaction failed, and is tried again: %v", s.CompactFailure)
	problem(s.UnfitPacks > 0, "%d packs cannot be compacted: `ipfs-aws datastore verify` tells why", s.UnfitPacks)
	problem(s.Reads.CacheWriteFailures > 0, "%d pieces could not be written to the cache: look at the space under cachePath", s.Reads.CacheWriteFailures)
}

func (o *datastoreStat) count(s s3ds.Stats) {
	o.Requests = []requestStat{}
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
	size := func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
	where := s.Bucket
	if s.Prefix != "" {
		where += "/" + s.Prefix
	}
	line("Bucket", "%s, layout %s", where, s.Layout)
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
