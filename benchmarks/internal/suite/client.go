package suite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
)

// opOfStore says in which class of the server an operation of s3ds arrives: its head is a GET of one byte, its check a HEAD of the bucket.
var opOfStore = map[string]s3model.Op{
	"put": s3model.Put, "get": s3model.Get, "head": s3model.Get, "list": s3model.List, "delete": s3model.Delete, "check": s3model.Head,
}

// clientCounters are what a store of ours counted since it was opened; nil for a store that does not count.
func (r *Run) clientCounters(ctx context.Context) (map[string]int64, error) {
	c := map[string]int64{}
	found := false
	take := func(name string, labels map[string]string, v float64) {
		switch name {
		case "s3ds_bucket_requests_total":
			found = true
			c[string(opOfStore[labels["op"]])] += int64(v)
		case "s3ds_bucket_retries_total":
			c["retries"] += int64(v)
		case "s3ds_read_bytes_total":
			c["bytes from "+labels["from"]] += int64(v)
		case "tiered_cold_reads_total":
			c["cold reads"] += int64(v)
		}
	}
	var err error
	if r.Level == "kubo" {
		err = r.Node.metrics(ctx, take)
	} else {
		err = collect(r.DS, take)
	}
	if err != nil || !found {
		return nil, err
	}
	return c, nil
}

// Unwrapper is a store in front of another one, whose counters are meant.
type Unwrapper interface{ Cold() ds.Batching }

func innermost(d ds.Batching) ds.Batching {
	for {
		u, ok := d.(Unwrapper)
		if !ok {
			return d
		}
		d = u.Cold()
	}
}

func collect(d ds.Batching, take func(string, map[string]string, float64)) error {
	c, ok := innermost(d).(prometheus.Collector)
	if !ok {
		return nil
	}
	ch := make(chan prometheus.Metric)
	go func() {
		defer close(ch)
		c.Collect(ch)
	}()
	var failed error
	for m := range ch {
		var v dto.Metric
		if err := m.Write(&v); err != nil {
			failed = err
			continue
		}
		// Desc{fqName: "name", help: …
		_, rest, _ := strings.Cut(m.Desc().String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		labels := map[string]string{}
		for _, l := range v.Label {
			labels[l.GetName()] = l.GetValue()
		}
		take(name, labels, v.GetCounter().GetValue()+v.GetGauge().GetValue())
	}
	return failed
}

// metrics reads what the daemon shows to Prometheus.
func (n *Node) metrics(ctx context.Context, take func(string, map[string]string, float64)) error {
	b, err := n.do(ctx, http.MethodGet, n.api+"/debug/metrics/prometheus", nil)
	if err != nil {
		return err
	}
	return ParseMetrics(bytes.NewReader(b), take)
}

// ParseMetrics reads Prometheus's text format, as far as counters and gauges go.
func ParseMetrics(r io.Reader, take func(name string, labels map[string]string, v float64)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if at < 0 {
			return fmt.Errorf("metrics: %q is no metric", line)
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return fmt.Errorf("metrics: %q: %w", line, err)
		}
		name, rest, _ := strings.Cut(line[:at], "{")
		labels := map[string]string{}
		for rest = strings.TrimSuffix(rest, "}"); rest != ""; {
			key, after, ok := strings.Cut(rest, `="`)
			if !ok {
				break
			}
			value, more, _ := strings.Cut(after, `"`)
			labels[strings.Trim(key, ",")] = value
			rest = more
		}
		take(name, labels, v)
	}
	return lines.Err()
}

// drainer is a store that can say when everything is where it belongs.
type drainer interface{ Drain(context.Context) error }

// drain waits until what was written is in the bucket.
func (r *Run) drain(ctx context.Context) error {
	if r.Level == "datastore" {
		if d, ok := innermost(r.DS).(drainer); ok {
			return d.Drain(ctx)
		}
		return nil
	}
	if r.Store.Stock || r.Store.S3 == "" {
		return nil
	}
	for {
		b, err := r.Node.RPC(ctx, "datastore/stat")
		if err != nil {
			return err
		}
		var s struct {
			Journal struct{ Blocks int64 }
			Nodes   struct{ Waiting int }
		}
		if err := json.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("datastore stat: %w", err)
		}
		if s.Journal.Blocks == 0 && s.Nodes.Waiting == 0 {
			return nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return errors.Join(err, fmt.Errorf("%d blocks were not uploaded", s.Journal.Blocks))
		}
	}
}
