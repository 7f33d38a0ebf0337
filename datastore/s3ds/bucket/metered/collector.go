package metered

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

var _ prometheus.Collector = (*Meter)(nil)

var (
	descCalls    = prometheus.NewDesc("s3ds_bucket_calls_total", "Calls of the bucket by operation and outcome (ok, miss, throttled, cancelled, failed).", []string{"op", "outcome"}, nil)
	descSeconds  = prometheus.NewDesc("s3ds_bucket_call_seconds_total", "Seconds spent in calls of the bucket.", []string{"op"}, nil)
	descObject   = prometheus.NewDesc("s3ds_bucket_object_bytes_total", "Bytes of objects that callers read (in) or put (out).", []string{"op", "direction"}, nil)
	descRequests = prometheus.NewDesc("s3ds_bucket_requests_total", "HTTP requests sent by operation and outcome (ok, throttled, failed), retries included.", []string{"op", "outcome"}, nil)
	descRetries  = prometheus.NewDesc("s3ds_bucket_retries_total", "HTTP requests sent because another one had failed.", []string{"op"}, nil)
	descWire     = prometheus.NewDesc("s3ds_bucket_wire_bytes_total", "Bytes of HTTP bodies received (in) and sent (out).", []string{"op", "direction"}, nil)
	descUSD      = prometheus.NewDesc("s3ds_bucket_usd_total", "Price of the requests at S3 Standard in us-east-1, in USD, without storage and transfer.", []string{"op", "outcome"}, nil)
)

// Describe implements prometheus.Collector.
func (m *Meter) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descCalls, descSeconds, descObject, descRequests, descRetries, descWire, descUSD} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Meter) Collect(ch chan<- prometheus.Metric) {
	s := m.Snapshot()
	for _, op := range bucket.Ops {
		c, name := s[op], string(op)
		counter := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, append([]string{name}, labels...)...)
		}
		for _, o := range []Outcome{OK, Miss, Throttled, Cancelled, Failed} {
			counter(descCalls, float64(c.Calls[o]), string(o))
		}
		counter(descSeconds, c.Seconds)
		counter(descObject, float64(c.BytesIn), "in")
		counter(descObject, float64(c.BytesOut), "out")
		throttled := min(c.Throttles, c.Failures)
		for o, n := range map[Outcome]uint64{OK: c.Requests - c.Failures, Throttled: throttled, Failed: c.Failures - throttled} {
			counter(descRequests, float64(n), string(o))
			counter(descUSD, float64(n)*m.prices[op], string(o))
		}
		counter(descRetries, float64(c.Retries))
		counter(descWire, float64(c.BytesReceived), "in")
		counter(descWire, float64(c.BytesSent), "out")
	}
}
