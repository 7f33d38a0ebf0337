package efsmodel

import (
	"fmt"
	"slices"
	"time"

	"github.com/ipfs-aws/ipfs-aws/internal/bill"
	"github.com/ipfs-aws/ipfs-aws/internal/prices"
)

// Kind is a kind of request to the server.
type Kind string

const (
	Lookup  Kind = "lookup"  // a name, on its own
	Getattr Kind = "getattr" // attributes
	Setattr Kind = "setattr" // truncation, times, mode
	Open    Kind = "open"    // of an existing file
	Create  Kind = "create"  // of a file or directory
	Close   Kind = "close"
	Read    Kind = "read"  // up to 1 MiB
	Write   Kind = "write" // up to 1 MiB
	Rename  Kind = "rename"
	Remove  Kind = "remove"  // of a file or directory
	Readdir Kind = "readdir" // up to readdirEntries names
)

// Kinds are all kinds, in the order in which reports show them.
var Kinds = []Kind{Lookup, Getattr, Setattr, Open, Create, Close, Read, Write, Rename, Remove, Readdir}

const (
	// MaxTransfer is the rsize and wsize with which AWS has EFS mounted
	// (docs.aws.amazon.com/efs/latest/ug/mounting-fs-nfs-mount-settings.html).
	MaxTransfer = 1 << 20
	// readdirEntries is how many names one READDIR brings, with attributes of
	// about 100 bytes, in the 32 KiB that Linux asks for at first.
	readdirEntries = 300
	// sessionSlots is what Linux's client asks for at most (nfs.max_session_slots).
	sessionSlots = 64
)

// Profile says how long the server takes, and how much it lets through.
type Profile struct {
	Name string
	// Latency of each kind of request, without the transfer of its data.
	Latency map[Kind]time.Duration
	// ClientBytes is what one client may transfer in a second.
	ClientBytes int64
	// ReadOps and WriteOps are the requests a second that a file system serves
	// in General Purpose mode. They are kept to only if Options.LimitOps is set.
	ReadOps, WriteOps int64
}

const ms = time.Millisecond

// OneZone is an EFS One Zone file system in General Purpose mode.
//
// AWS gives its latencies as "as low as" 0.25 ms for reads and 1.6 ms for
// writes, 35,000 reads and 7,000 writes a second, and 500 MiB/s for a client
// (docs.aws.amazon.com/efs/latest/ug/performance.html, read 2026-11). What is set
// here for each kind of request lies above those floors, as an average under
// load does: reads of attributes 0.5, of a name or data 0.6 to 0.8 with the
// way from the client to the mount target, writes 1.8, and 2 where a directory
// changes.
var OneZone = Profile{
	Name: "onezone",
	Latency: map[Kind]time.Duration{
		Lookup: 6 * ms / 10, Getattr: 5 * ms / 10, Setattr: 18 * ms / 10,
		Open: 8 * ms / 10, Create: 2 * ms, Close: 6 * ms / 10,
		Read: 8 * ms / 10, Write: 18 * ms / 10,
		Rename: 2 * ms, Remove: 2 * ms, Readdir: 1 * ms,
	},
	ClientBytes: 500 << 20,
	ReadOps:     35_000,
	WriteOps:    7_000,
}

// Regional is an EFS Standard file system. AWS gives the same latency for reads
// and 2.7 ms instead of 1.6 for writes, because a write is in three zones before
// it is acknowledged; so what writes is slower here by that, 1.7 times. A
// client may transfer 1,500 MiB/s with Elastic throughput, and 500 otherwise;
// requests are 90,000 and 50,000 a second with Elastic, the least that is given.
var Regional = Profile{
	Name: "regional",
	Latency: map[Kind]time.Duration{
		Lookup: 6 * ms / 10, Getattr: 5 * ms / 10, Setattr: 30 * ms / 10,
		Open: 8 * ms / 10, Create: 34 * ms / 10, Close: 6 * ms / 10,
		Read: 8 * ms / 10, Write: 30 * ms / 10,
		Rename: 34 * ms / 10, Remove: 34 * ms / 10, Readdir: 1 * ms,
	},
	ClientBytes: 1500 << 20,
	ReadOps:     90_000,
	WriteOps:    50_000,
}

// Profiles are all profiles.
var Profiles = []Profile{OneZone, Regional}

// FindProfile returns a profile by its name.
func FindProfile(name string) (Profile, error) {
	i := slices.IndexFunc(Profiles, func(p Profile) bool { return p.Name == name })
	if i < 0 {
		return Profile{}, fmt.Errorf("efsmodel: profile %q is not known: use onezone or regional", name)
	}
	return Profiles[i], nil
}

// Throughput is a file system's throughput mode.
type Throughput struct {
	// Mode is "elastic", "provisioned" or "bursting".
	Mode string
	// MiBps is the provisioned throughput.
	MiBps int64
	// StoredGiB is what the file system is taken to store, which sets the baseline of bursting.
	StoredGiB int64
	// CreditBytes are the burst credits at the start. A new file system has 2.1 TiB.
	CreditBytes int64
}

// Figures of the throughput modes, from
// docs.aws.amazon.com/efs/latest/ug/performance.html#throughput-modes, read 2026-11.
const (
	// Elastic throughput of a One Zone file system: 3 GiB/s of reads, which
	// count a third, and 1 GiB/s of writes.
	elasticBytes = 1 << 30
	// Bursting: 50 KiB/s for each GiB stored, at least 1 MiB/s, and 100 MiB/s
	// while there are credits, more from 1 TiB on.
	burstBaselinePerGiB = 50 << 10
	burstBaselineMin    = 1 << 20
	burstBytes          = 100 << 20
	// InitialCredits is what a new file system starts with.
	InitialCredits = 2_100 << 30
	// readShare: a byte read counts as a third of a byte.
	readShare = 3
)

func (t Throughput) validate() error {
	switch {
	case t.Mode == "elastic", t.Mode == "bursting":
		return nil
	case t.Mode == "provisioned" && t.MiBps > 0:
		return nil
	case t.Mode == "provisioned":
		return fmt.Errorf("efsmodel: provisioned throughput is %d MiB/s; it must be more than 0", t.MiBps)
	}
	return fmt.Errorf("efsmodel: throughput mode %q is not known: use elastic, provisioned or bursting", t.Mode)
}

// Metering, from docs.aws.amazon.com/efs/latest/ug/metered-sizes.html: with
// Elastic throughput a request for data is metered as 32 KiB at least, and
// rounded up to 1 KiB; one for metadata as 4 KiB.
const (
	meteredData     = 32 << 10
	meteredDataUnit = 1 << 10
	meteredMetadata = 4 << 10
)

// metered returns the bytes a request is billed for, and whether as written.
func metered(kind Kind, bytes int64) (n int64, write bool) {
	switch kind {
	case Read:
		return max(meteredData, (bytes+meteredDataUnit-1)/meteredDataUnit*meteredDataUnit), false
	case Write:
		return max(meteredData, (bytes+meteredDataUnit-1)/meteredDataUnit*meteredDataUnit), true
	case Create, Setattr, Rename, Remove:
		return meteredMetadata, true
	default:
		return meteredMetadata, false
	}
}

// Metered returns what Elastic throughput bills for n requests of a kind that moved so many bytes together, as read and as written: exact
// for metadata, and for data taken to be spread evenly.
func Metered(kind Kind, n, bytes int64) (read, written int64) {
	if n == 0 {
		return 0, 0
	}
	each, write := metered(kind, (bytes+n-1)/n)
	if write {
		return 0, n * each
	}
	return n * each, 0
}

// ElasticUSD is what metered bytes cost with Elastic throughput, in USD.
func ElasticUSD(read, written int64) float64 {
	return float64(read)/bill.GB*prices.Of("efs.elastic.read.gb") + float64(written)/bill.GB*prices.Of("efs.elastic.write.gb")
}

// BurstingPerGiB is the baseline of bursting, in bytes per second for each GiB stored.
const BurstingPerGiB = burstBaselinePerGiB

// baseline is the throughput of a bursting file system without credits, in bytes a second.
func baseline(t Throughput) int64 { return max(burstBaselineMin, t.StoredGiB*burstBaselinePerGiB) }

// LimitBytes is what one client may write in a second by the profile and the throughput mode, in bytes: with burst credits if it starts with any.
func LimitBytes(p Profile, t Throughput) int64 {
	mode := int64(elasticBytes)
	switch t.Mode {
	case "provisioned":
		mode = t.MiBps << 20
	case "bursting":
		mode = max(burstBytes, t.StoredGiB*(burstBytes>>10))
		if t.CreditBytes == 0 {
			mode = baseline(t)
		}
	}
	return min(p.ClientBytes, mode)
}
