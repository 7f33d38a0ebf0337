package main

import (
	"fmt"
	"math"
	"time"

	humanize "github.com/dustin/go-humanize"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/metered"
)

// What stores do, for the estimate. Rates are per second, of one node with two cores and S3 in the same region.
const (
	// bytesRate is what two cores read, hash and write: measured, see docs/migrate.md.
	bytesRate = 200e6
	// A read of layout packs fetches 256 MiB with 20 requests, see docs/s3ds.md.
	bytesOfRead = 256 << 20 / 20
	// Of 42 and 56 MiB, 8 and 13 reads more than these were counted.
	piecesOfRead = 8
	// 64 blocks are read at the same time, and a GET takes 25 ms in the median.
	objectReads = 64 / 0.025
	// A batch of layout objects is written with 128 requests at the same time, and a PUT takes 40 ms.
	objectWrites = 128 / 0.040
	// flatfs and efs on EFS and its model, blocks of 256 KiB: see docs/efs.md. A local disk is faster.
	flatfsWrites, efsWrites = 200, 2000
	// A pack has room for the multihash and the index of each block beside its bytes: 40 and 48.
	packOverhead = 88
	// Inner nodes are gathered from 64 packs at most, one request more for these.
	packsGathered = 64
	// While something is written the bucket is asked every 20 s whose the prefix is.
	askedEvery = 20
	listed     = 1000 // objects in the answer to a LIST
	packSize   = 32 << 20
)

// migrateEstimate is what a migration will take, before it begins.
type migrateEstimate struct {
	From, To      string
	Blocks, Bytes int64
	Requests      map[string]int64 // by operation
	Dollars       float64
	Hours         float64
	Bound         string // what decides how long it takes
}

// estimate reckons what copying into an empty target takes, from the probe to the last list. A test compares it with what a server counts.
func estimate(from, to string, source, target map[string]any, blocks, bytes int64, limits limits) migrateEstimate {
	e := migrateEstimate{From: from, To: to, Blocks: blocks, Bytes: bytes, Requests: map[string]int64{}}
	n, size := float64(blocks), float64(bytes)
	seconds, bound := size/bytesRate, fmt.Sprintf("%s/s, what two cores copy", humanize.Bytes(bytesRate))
	slower := func(s float64, why string, args ...any) {
		if s > seconds {
			seconds, bound = s, fmt.Sprintf(why, args...)
		}
	}
	add := func(op bucket.Op, k float64) {
		if k > 0 {
			e.Requests[string(op)] += int64(math.Ceil(k))
			e.Dollars += math.Ceil(k) * metered.Standard[op]
		}
	}
	packs := func(spec map[string]any) bool { return innermost(spec)["layout"] == s3ds.LayoutPacks }
	full := (size + n*packOverhead) / packSize
	pages := math.Ceil(n / listed)
	if isS3(source) {
		if packs(source) {
			// The owner object and the records of the chain; then windows, the end of each pack, and pieces of inner nodes and of packs that another walk has ordered.
			add(bucket.OpGet, 1+size/bytesOfRead+math.Ceil(full)+piecesOfRead)
		} else {
			add(bucket.OpHead, 1)
			add(bucket.OpList, 1+pages)
			add(bucket.OpGet, n)
			slower(n/objectReads, "%d blocks/s, 64 GETs at the same time", int(objectReads))
		}
	}
	owned := isS3(target) && packs(target)
	if isS3(target) { // the probe
		add(bucket.OpHead, 1)
		add(bucket.OpList, 1)
		add(bucket.OpGet, 2)
		add(bucket.OpPut, 1)
		add(bucket.OpDelete, 1)
	}
	switch {
	case target == nil: // a folder of CARs
	case owned:
		// The probe of conditional writes; the owner object, the chain of owners and what is there, when it is opened, and its end.
		add(bucket.OpPut, 4+full+full/packsGathered+1+3)
		add(bucket.OpGet, 1+1)
		add(bucket.OpDelete, 1)
		add(bucket.OpList, 2)
	case isS3(target):
		add(bucket.OpHead, 1)
		add(bucket.OpPut, n)
		add(bucket.OpList, 2+pages) // when it is opened, before and after
		slower(n/objectWrites, "%d blocks/s, 128 PUTs at the same time", int(objectWrites))
	case describeSpec(target) == "flatfs":
		slower(n/flatfsWrites, "%d blocks/s, flatfs on a network file system; on a local disk it is faster", flatfsWrites)
	default:
		slower(n/efsWrites, "%d blocks/s, the EFS file system", efsWrites)
	}
	if limits.bandwidth > 0 {
		slower(size/limits.bandwidth, "--bandwidth")
	}
	if limits.requests > 0 {
		var all int64
		for _, k := range e.Requests {
			all += k
		}
		slower(float64(all)/limits.requests, "--max-requests")
	}
	if owned {
		add(bucket.OpGet, math.Floor(seconds/askedEvery))
	}
	e.Hours, e.Bound = seconds/3600, bound
	return e
}

func (e *migrateEstimate) String() string {
	var requests int64
	for _, k := range e.Requests {
		requests += k
	}
	took := time.Duration(e.Hours * float64(time.Hour)).Round(time.Second)
	return fmt.Sprintf("from %s to %s: %d blocks, %s; about %d requests (%s), %s, %s (at %s)",
		e.From, e.To, e.Blocks, humanize.IBytes(uint64(e.Bytes)), requests, describeRequests(e.Requests), dollars(e.Dollars), took, e.Bound)
}

func describeRequests(requests map[string]int64) string {
	text := ""
	for _, op := range bucket.Ops {
		if k := requests[string(op)]; k > 0 {
			if text != "" {
				text += ", "
			}
			text += fmt.Sprintf("%d %s", k, op)
		}
	}
	if text == "" {
		return "none"
	}
	return text
}
