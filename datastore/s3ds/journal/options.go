package journal

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

const (
	// DefaultSegmentBytes is 32 MiB: $0.005 per 1,000 PUT is then $0.16 per TiB,
	// and an upload takes 0.4 s at 90 MB/s.
	DefaultSegmentBytes = 32 << 20

	// DefaultSegmentBlocks bounds the index of a pack of small blocks: 131,072
	// records of 40 bytes are 5 MiB, in memory while the segment grows and in
	// every later reading of the index. 32 MiB hold as many of 256 bytes.
	DefaultSegmentBlocks = 1 << 17

	// DefaultSealAge is how long a block waits for company.
	DefaultSealAge = time.Minute

	// DefaultMaxBytes is 1 GiB: 12 s of writes at 90 MB/s with the bucket down,
	// or hours of a node that is not bulk-loaded; a twentieth of the disk that
	// comes with a Fargate task.
	DefaultMaxBytes = 1 << 30

	// PathSetting is the setting that an operator is pointed to when the disk
	// under the journal is at fault.
	PathSetting = "journalPath"
)

// Options of a journal. The zero value of each field but Writer is a default.
type Options struct {
	// Writer is the id of this node in the names of its packs.
	Writer string
	// IDs numbers the segments; share it with all who make packs for this
	// writer. By default a source of the journal's own.
	IDs *pack.IDs
	// FS is the file system, the operating system's by default.
	FS vfs.FS
	// SegmentBytes is the size at which a segment is sealed, its index not
	// counted. A segment exceeds it only by holding a single larger block.
	SegmentBytes int64
	// SegmentBlocks is the number of blocks at which a segment is sealed.
	SegmentBlocks int
	// SealAge is how long the oldest block of a segment waits before the
	// segment is sealed.
	SealAge time.Duration
	// MaxBytes bounds the journal on disk: segments not yet removed, with their
	// indexes, in bytes. While a segment is being copied after a failure it
	// counts once.
	MaxBytes int64
}

// complete fills in the defaults and reports all that is wrong.
func (o *Options) complete() error {
	var errs []error
	if err := pack.CheckWriter(o.Writer); err != nil {
		errs = append(errs, err)
	}
	if o.IDs == nil {
		o.IDs = pack.NewIDs(0)
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.SegmentBlocks == 0 {
		o.SegmentBlocks = DefaultSegmentBlocks
	}
	if o.SealAge == 0 {
		o.SealAge = DefaultSealAge
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = max(DefaultMaxBytes, 2*o.SegmentBytes)
	}
	if o.SegmentBytes < 1 || o.SegmentBytes > 1<<40 {
		errs = append(errs, fmt.Errorf("segment size %d: use 1 byte to 1 TiB", o.SegmentBytes))
	}
	if most := pack.MaxIndex / (8 + pack.MaxDigest + 24); o.SegmentBlocks < 1 || o.SegmentBlocks > most {
		errs = append(errs, fmt.Errorf("blocks per segment %d: use 1 to %d", o.SegmentBlocks, most))
	}
	if o.SealAge < 0 {
		errs = append(errs, fmt.Errorf("seal age %s: use a positive duration", o.SealAge))
	}
	if o.MaxBytes < 2*o.SegmentBytes {
		errs = append(errs, fmt.Errorf("journal bound %d: use at least two segments, %d bytes", o.MaxBytes, 2*o.SegmentBytes))
	}
	return errors.Join(errs...)
}
