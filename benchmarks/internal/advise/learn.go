package advise

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
	"github.com/ipfs-aws/ipfs-aws/internal/bill"
)

// Learned is what the metrics of a node say of its use, extrapolated to a month.
type Learned struct {
	StoredGB, AddedGB, ServedGB, Wants float64
	Said                               string // how it was calculated
}

// Learn reads the Prometheus metrics of a running ipfs-aws with an S3 blockstore.
func Learn(r io.Reader, now time.Time) (Learned, error) {
	var stored, started, written, asked, misses float64
	packs := false
	err := suite.ParseMetrics(r, func(name string, labels map[string]string, v float64) {
		switch {
		case name == "process_start_time_seconds":
			started = v
		case name == "s3ds_block_bytes":
			stored += v
			packs = true
		case name == "s3ds_bucket_object_bytes_total" && labels["op"] == "put" && labels["direction"] == "out":
			written = v
		case name == "s3ds_read_bytes_total" && labels["from"] == "asked":
			asked = v
		case name == "s3ds_index_lookups_total" && labels["outcome"] == "miss":
			misses = v
		}
	})
	switch {
	case err != nil:
		return Learned{}, err
	case started == 0 || !packs:
		return Learned{}, errors.New("has no process_start_time_seconds or no s3ds_block_bytes: it must be of an ipfs-aws with layout packs; otherwise say --stored, --added and --served")
	}
	up := now.Sub(time.Unix(int64(started), 0)).Seconds()
	if up < 60 {
		return Learned{}, fmt.Errorf("the node runs for %.0f s: let it run for a day or more before a month is calculated from it", up)
	}
	months := bill.SecondsPerMonth / up
	l := Learned{StoredGB: stored / bill.GB, AddedGB: written / bill.GB * months, ServedGB: asked / bill.GB * months, Wants: misses / up}
	l.Said = fmt.Sprintf("Learned from %.3g h: stored %.4g GB; added %.4g GB × %.4g = %.4g GB a month; served %.4g GB × %.4g = %.4g GB a month; %.0f misses ÷ %.0f s = %.4g wants a second.",
		up/3600, l.StoredGB, written/bill.GB, months, l.AddedGB, asked/bill.GB, months, l.ServedGB, misses, up, l.Wants)
	return l, nil
}
