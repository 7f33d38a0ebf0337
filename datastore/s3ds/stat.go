package s3ds

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/journal"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/span"
)

// Stat describes a store in layout packs at one moment. Counters begin when it is opened.
type Stat struct {
	Index    index.Stats   // blocks and bytes: all, in the journal, loose, live and dead in packs
	Journal  journal.Stats // what waits to be uploaded
	Recovery journal.Recovery
	Reads    span.Stats // of packs: requests, bytes, cache
	Owner    Ownership
	Totals   Stats // requests and dollars

	PacksByLive [4]int64 // packs of which up to a quarter, a half, three quarters, all is alive

	Hits, Misses   uint64 // calls that the index answered with "there" and "not there"
	Uploads        uint64 // packs
	UploadedBytes  uint64
	UploadFailures uint64
	Unhealthy      error  // of the latest upload
	StuckSegments  int    // of the journal: damaged, what is good in them is elsewhere
	DamagedBlocks  int64  // known, and waiting to be put again
	NodesWaiting   int    // inner nodes that will be gathered into a pack of their own
	NodesGathered  uint64 // that were
	NodePacks      uint64 // packs that they went to
	GatherFailure  error  // of the latest attempt
	Removed        uint64
	Merged         uint64 // packs that compaction removed, and merged into others
	Rewritten      uint64 // bytes that it wrote
	CompactFailure error
	SkippedPacks   int // that compaction cannot rewrite, and nobody has judged yet
}

// Stat asks nothing of the bucket, unless this process was idle: then 1 GET, whether it is still the owner.
func (p *Packed) Stat(ctx context.Context) (Stat, error) {
	ctx, leave, err := p.enter(ctx)
	if err != nil {
		return Stat{}, fmt.Errorf("s3ds: stat: %w", err)
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, statTimeout)
	defer cancel()
	_ = p.fence.certain(ctx) // what comes of it is in the answer
	return p.stat(), nil
}

// statTimeout bounds how long Stat waits for the bucket.
const statTimeout = 5 * time.Second

func (p *Packed) stat() Stat {
	x := p.x.Stats()
	s := Stat{
		Index: x, Journal: p.j.Stats(), Recovery: p.recovery, Reads: p.r.Stats(), Owner: p.fence.status(p.node, p.host), Totals: p.Stats(),
		Hits: p.hits.Load(), Misses: p.miss.Load(), DamagedBlocks: x.DamagedBlocks + x.UnfitBlocks,
	}
	for _, k := range p.x.Packs() {
		share := 0
		if k.Bytes > 0 && k.LiveBytes > 0 {
			share = int((4*k.LiveBytes - 1) / k.Bytes)
		}
		s.PacksByLive[share]++
	}
	p.up.mu.Lock()
	s.Uploads, s.UploadedBytes, s.UploadFailures, s.Unhealthy, s.StuckSegments = p.up.packs, p.up.bytes, p.up.failures, p.up.err, len(p.up.damaged)
	p.up.mu.Unlock()
	p.gather.stat(&s)
	p.compact.state.Lock()
	s.Removed, s.Merged, s.Rewritten, s.CompactFailure, s.SkippedPacks = p.compact.removed, p.compact.merged, p.compact.written, p.compact.err, len(p.compact.skip)
	p.compact.state.Unlock()
	return s
}

// Stats returns the totals.
func (p *Packed) Stats() Stats {
	s := p.loose.Stats()
	s.Mismatches += uint64(p.r.Stats().VerificationFailures)
	return s
}

// metric is one of the metrics of layout packs, read from a Stat.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(Stat) map[string]float64 // by the value of the label; "" if there is none
}

func one(v float64) map[string]float64 { return map[string]float64{"": v} }

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func age(oldest time.Time) float64 {
	if oldest.IsZero() {
		return 0
	}
	return max(time.Since(oldest).Seconds(), 0)
}

// shares are the labels of Stat.PacksByLive.
var shares = [4]string{"0-25", "25-50", "50-75", "75-100"}

var metrics = func() []metric {
	var all []metric
	add := func(kind prometheus.ValueType, name, help, label string, read func(Stat) map[string]float64) {
		var labels []string
		if label != "" {
			labels = []string{label}
		}
		all = append(all, metric{prometheus.NewDesc("s3ds_"+name, help, labels, nil), kind, read})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	places := func(journal, loose, live int64) map[string]float64 {
		return map[string]float64{"journal": float64(journal), "loose": float64(loose), "pack": float64(live)}
	}
	add(gauge, "blocks", "Blocks by place (journal, loose, pack).", "place", func(s Stat) map[string]float64 {
		return places(s.Index.JournalBlocks, s.Index.LooseBlocks, s.Index.LiveBlocks)
	})
	add(gauge, "block_bytes", "Bytes of blocks by place (journal, loose, pack).", "place", func(s Stat) map[string]float64 {
		return places(s.Index.JournalBytes, s.Index.LooseBytes, s.Index.LiveBytes)
	})
	add(gauge, "dead_bytes", "Bytes of deleted blocks that packs still hold.", "", func(s Stat) map[string]float64 { return one(float64(s.Index.DeadBytes)) })
	add(gauge, "packs", "Packs by the percentage of their bytes that is alive.", "live", func(s Stat) map[string]float64 {
		m := map[string]float64{}
		for i, n := range s.PacksByLive {
			m[shares[i]] = float64(n)
		}
		return m
	})
	add(counter, "index_lookups_total", "Lookups of blocks by outcome (hit, miss). None of them is a request.", "outcome", func(s Stat) map[string]float64 {
		return map[string]float64{"hit": float64(s.Hits), "miss": float64(s.Misses)}
	})
	add(gauge, "journal_bytes", "Bytes in the journal, not uploaded yet.", "", func(s Stat) map[string]float64 { return one(float64(s.Journal.Bytes)) })
	add(gauge, "journal_oldest_seconds", "Age of the oldest block that is not uploaded yet.", "", func(s Stat) map[string]float64 { return one(age(s.Journal.Oldest)) })
	add(gauge, "journal_waiting", "Writers that wait for room in the journal.", "", func(s Stat) map[string]float64 { return one(float64(s.Journal.Waiting)) })
	add(counter, "journal_syncs_total", "Synced writes of the journal, each shared by all who waited.", "", func(s Stat) map[string]float64 { return one(float64(s.Journal.Syncs)) })
	add(gauge, "journal_stuck_segments", "Segments of the journal that are damaged and cannot be uploaded.", "", func(s Stat) map[string]float64 { return one(float64(s.StuckSegments)) })
	add(gauge, "journal_damaged_parts", "Parts of the journal that were found to be damaged at the start.", "", func(s Stat) map[string]float64 { return one(float64(len(s.Recovery.Damaged))) })
	add(counter, "uploads_total", "Uploads of packs by outcome (ok, failed).", "outcome", func(s Stat) map[string]float64 {
		return map[string]float64{"ok": float64(s.Uploads), "failed": float64(s.UploadFailures)}
	})
	add(counter, "read_bytes_total", "Bytes of packs: asked by callers, moved from the bucket, read from the cache on disk.", "from", func(s Stat) map[string]float64 {
		return map[string]float64{"asked": float64(s.Reads.BytesAsked), "bucket": float64(s.Reads.BytesMoved), "disk": float64(s.Reads.DiskBytesRead)}
	})
	add(gauge, "cache_bytes", "Bytes in the cache on disk.", "", func(s Stat) map[string]float64 { return one(float64(s.Reads.CacheBytes)) })
	add(counter, "cache_failures_total", "Pieces of the cache on disk by what went wrong (damaged, write, skipped).", "what", func(s Stat) map[string]float64 {
		return map[string]float64{"damaged": float64(s.Reads.CacheDamaged), "write": float64(s.Reads.CacheWriteFailures), "skipped": float64(s.Reads.CacheSkipped)}
	})
	add(gauge, "damaged_blocks", "Blocks that are known to be damaged or lost, and were not put again.", "", func(s Stat) map[string]float64 { return one(float64(s.DamagedBlocks)) })
	add(counter, "nodes_gathered_total", "Inner nodes of DAGs that were copied into packs of their own.", "", func(s Stat) map[string]float64 { return one(float64(s.NodesGathered)) })
	add(counter, "compacted_packs_total", "Packs that compaction removed because they were dead, and merged into others.", "how", func(s Stat) map[string]float64 {
		return map[string]float64{"removed": float64(s.Removed), "merged": float64(s.Merged)}
	})
	add(gauge, "unfit_packs", "Packs that are gone, cut or cannot be read, or that compaction cannot rewrite.", "", func(s Stat) map[string]float64 {
		return one(float64(s.Index.UnfitPacks + int64(s.SkippedPacks)))
	})
	add(gauge, "owner_proven_seconds", "How long ago the bucket said last that this process owns the prefix; it grows while nothing is written.", "",
		func(s Stat) map[string]float64 { return one(s.Owner.Proven.Seconds()) })
	add(gauge, "owner_unknown", "1 while the bucket cannot be asked who owns the prefix, and writes are acknowledged when the journal has them.", "",
		func(s Stat) map[string]float64 { return one(truth(s.Owner.Unknown != nil)) })
	add(gauge, "replaced", "1 if another node has taken over the prefix.", "", func(s Stat) map[string]float64 {
		return one(truth(s.Owner.Replaced != nil))
	})
	return all
}()

// Describe implements prometheus.Collector.
func (p *Packed) Describe(ch chan<- *prometheus.Desc) {
	p.loose.Describe(ch)
	for _, m := range metrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (p *Packed) Collect(ch chan<- prometheus.Metric) {
	p.meter.Collect(ch)
	s := p.stat()
	ch <- prometheus.MustNewConstMetric(descMismatches, prometheus.CounterValue, float64(s.Totals.Mismatches))
	for _, m := range metrics {
		for label, v := range m.read(s) {
			if label == "" {
				ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v)
			} else {
				ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v, label)
			}
		}
	}
}
