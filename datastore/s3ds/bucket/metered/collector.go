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
	descRequests = prometheus.NewDesc("s3ds_bucket_requests_total", "HTTP requests sent, retries included.", []string{"op"}, nil)
	descFailures = prometheus.NewDesc("s3ds_bucket_request_failures_total", "HTTP requests that failed, whether or not a retry succeeded.", []string{"op"}, nil)
	descThrottle = prometheus.NewDesc("s3ds_bucket_request_throttles_total", "HTTP requests answered with 503 or 429.", []string{"op"}, nil)
	descWire     = prometheus.NewDesc("s3ds_bucket_wire_bytes_total", "Bytes of HTTP bodies received (in) and sent (out).", []string{"op", "direction"}, nil)
	descUSD      = prometheus.NewDesc("s3ds_bucket_usd_total", "Price of the requests at S3 Standard in us-east-1, in USD, without storage and transfer.", []string{"op"}, nil)
)

// Describe implements prometheus.Collector.
func (m *Meter) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descCalls, descSeconds, descObject, descRequests, descFailures, descThrottle, descWire, descUSD} {
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
		counter(descRequests, float64(c.Requests))
		counter(descFailures, float64(c.Failures))
		counter(descThrottle, float64(c.Throttles))
		counter(descWire, float64(c.BytesReceived), "in")
		counter(descWire, float64(c.BytesSent), "out")
		counter(descUSD, c.USD)
	}
}
