package migrate

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// Options say how a migration is done. Zero values are defaults, unless it says "required".
type Options struct {
	Dir string // required: of the ledger; made if it is not there

	// Roots name what is pinned, in the order in which it is to be copied. They may be yielded more than once.
	Roots iter.Seq2[cid.Cid, error]
	// Merge allows a target that holds blocks that the source has not.
	Merge bool
	// Keep leaves what was deleted from the source, since it was copied, in the target; and with Live, what comes into the source
	// meanwhile need not be copied: this is for copies, whose source stays in use.
	Keep bool
	// SkipDamaged lets a migration succeed though blocks of the source are damaged: they are left out, and reported.
	SkipDamaged bool
	// Live: source and target change meanwhile, and what is deleted is deleted from both by whoever does it. The target is not
	// cleaned, and a block that is gone is no damage.
	Live bool
	// Reread: reading a block of the source twice is cheap, as on a local disk, so that blocks which nothing pinned leads to can be
	// ordered by what they link to.
	Reread bool

	InFlight    int     // blocks that are read at the same time; default 64
	Commits     int     // writes to the target at the same time; default 1, which keeps the order exactly
	BatchBytes  int64   // of one write; default 8 MiB, which is what kubo writes at once
	SyncBytes   int64   // put between two calls of Target.Sync; default: one call at the end
	Bandwidth   float64 // bytes of blocks per second, at most; 0: no bound
	MaxRequests float64 // requests per second, at most, as Cost counts them; 0: no bound

	// Begin is called when both were listed and nothing is copied yet; an error ends it.
	Begin    func(Report) error
	Cost     func() Cost    // what source and target have cost so far
	Progress func(Progress) // called now and then, one call at a time
	Found    func(Finding)  // called for every block that is damaged, one call at a time
}

const (
	defaultInFlight   = 64
	defaultBatchBytes = 8 << 20
	// leastBatchBytes is what a write has at least, however narrow the bandwidth: a block of kubo's default size.
	leastBatchBytes = 256 << 10
	// batchBlocks bounds a write of small blocks.
	batchBlocks = 1024
	// flightBytes bounds the blocks that were read and are not written yet, in bytes: two writes, the one that is gathered, and 8 MiB of
	// blocks that are being read, which are 32 of 256 KiB.
	flightBytes = 32 << 20
	// aheadBytes bounds the blocks that are read before it is their turn, to know what they link to.
	aheadBytes = 16 << 20
	// leastWeight is what a block counts at least, in bytes, so that no more than 2,048 are in flight.
	leastWeight = 16 << 10
	// aheadBlocks is how many of the blocks that one block links to are read ahead.
	aheadBlocks = 32
	// leafSize is what a block with links stays under: see the constant of that name in datastore/s3ds.
	leafSize = 256 << 10
	// together is how many blocks that nothing is known about are taken at once, to be read at the same time.
	together = 256
	// shownDamage is how many damaged blocks a report names.
	shownDamage = 10_000
	// checks is how often a source that changes is compared with the target before giving up: what is missing the first time was
	// put into the source behind the back of whoever said that it would not be.
	checks = 3
)

// Cost is what requests were sent, and their price.
type Cost struct {
	Requests uint64
	USD      float64
}

// Stages of a migration.
const (
	ListingSource = "listing the source"
	ListingTarget = "listing the target"
	Comparing     = "comparing"
	Copying       = "copying"
	Checking      = "checking"
)

// Progress tells how far a migration has come.
type Progress struct {
	Stage                   string
	Blocks, Bytes           int64 // that the target has, or that were listed
	TotalBlocks, TotalBytes int64 // 0 while they are not known
	RunBlocks, RunBytes     int64 // of these, by this call of Run
	Damaged                 int64
	Cost                    Cost          // of this call
	Elapsed                 time.Duration // since this stage began
}

// Finding is a block of the source that cannot be copied.
type Finding struct {
	Hash mh.Multihash
	Err  error
}

// Report says what a migration did.
type Report struct {
	Blocks, Bytes       int64 // that the source has
	Copied, CopiedBytes int64 // by this call
	Before, BeforeBytes int64 // of these, that were in the target when it began
	Removed             int64 // from the target, because they were deleted from the source since they were copied
	Other               int64 // blocks of the target that the source has not
	Damaged             int64 // blocks that were left out
	Findings            []Finding
	Cost                Cost
	Elapsed             time.Duration
}

var (
	// ErrOtherContent says that the target holds blocks that the source has not, and Merge is not set.
	ErrOtherContent = errors.New("the target is not empty")
	// ErrIncomplete says that blocks of the source could not be copied, because they are damaged.
	ErrIncomplete = errors.New("blocks of the source are damaged")
	// ErrMissing says that the target has not what was put there.
	ErrMissing = errors.New("the target does not have all blocks")
)

func (o Options) complete() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("migrate: no folder for the ledger")
	}
	for name, v := range map[string]float64{
		"InFlight": float64(o.InFlight), "Commits": float64(o.Commits), "BatchBytes": float64(o.BatchBytes), "SyncBytes": float64(o.SyncBytes),
		"Bandwidth": o.Bandwidth, "MaxRequests": o.MaxRequests,
	} {
		if v < 0 {
			return o, fmt.Errorf("migrate: %s is %v: it must not be negative", name, v)
		}
	}
	if o.InFlight == 0 {
		o.InFlight = defaultInFlight
	}
	if o.Commits == 0 {
		o.Commits = 1
	}
	if o.BatchBytes == 0 {
		o.BatchBytes = defaultBatchBytes
	}
	o.BatchBytes = min(o.BatchBytes, flightBytes/2)
	if o.Bandwidth > 0 { // a write a second, so that what is throttled shows that it moves, and loses little
		o.BatchBytes = min(o.BatchBytes, max(int64(o.Bandwidth), leastBatchBytes))
	}
	if o.Cost == nil {
		o.Cost = func() Cost { return Cost{} }
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Found == nil {
		o.Found = func(Finding) {}
	}
	if o.Begin == nil {
		o.Begin = func(Report) error { return nil }
	}
	if o.Roots == nil {
		o.Roots = func(func(cid.Cid, error) bool) {}
	}
	return o, nil
}
