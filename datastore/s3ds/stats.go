package s3ds

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/metered"
)

// Stats are totals since the datastore was opened.
type Stats struct {
	Ops        map[bucket.Op]metered.Counts // calls, requests, bytes and USD
	Mismatches uint64                       // values read that did not match their key, healed by a second read or not
}

// Stats returns the totals.
func (d *Datastore) Stats() Stats {
	return Stats{Ops: d.meter.Snapshot(), Mismatches: d.mismatches.Load()}
}

var _ prometheus.Collector = (*Datastore)(nil)

var descMismatches = prometheus.NewDesc("s3ds_verification_failures_total",
	"Values read from the bucket whose bytes did not match their key, healed by a second read or not.", nil, nil)

// Describe implements prometheus.Collector.
func (d *Datastore) Describe(ch chan<- *prometheus.Desc) {
	d.meter.Describe(ch)
	ch <- descMismatches
}

// Collect implements prometheus.Collector.
func (d *Datastore) Collect(ch chan<- prometheus.Metric) {
	d.meter.Collect(ch)
	ch <- prometheus.MustNewConstMetric(descMismatches, prometheus.CounterValue, float64(d.mismatches.Load()))
}
