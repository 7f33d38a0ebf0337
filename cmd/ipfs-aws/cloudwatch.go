package main

import (
	"context"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
	"github.com/ipfs-aws/ipfs-aws/internal/container"
)

// forCloudWatch are the metrics that an operator has to act on, each made of one or more of /metrics. docs/s3ds.md says what to do.
var forCloudWatch = []struct {
	name, unit string
	of         []string
}{
	{"UploadsWaiting", "Seconds", []string{"s3ds_journal_oldest_seconds"}},
	{"Damaged", "Count", []string{"s3ds_damaged_blocks", "s3ds_journal_stuck_segments", "s3ds_unfit_packs"}},
}

// writeMetrics writes metrics to the log while the daemon runs, if IPFS_CLOUDWATCH_STACK asks for it.
func writeMetrics(ctx context.Context) {
	stack := os.Getenv(settings.CloudWatchStack)
	if stack == "" {
		return
	}
	go func() {
		if err := container.CloudWatch(ctx, os.Stdout, stack, gatherMetrics); err != nil {
			say("%s", err)
		}
	}()
}

// gatherMetrics sums up what /metrics has. A blockstore that does not have a metric leaves it out.
func gatherMetrics() (all []container.Metric, err error) {
	families, err := prometheus.DefaultGatherer.Gather()
	if len(families) > 0 {
		err = nil // an error of one metric spares the others
	}
	sums := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sums[f.GetName()] += number(m)
		}
	}
	for _, c := range forCloudWatch {
		m, found := container.Metric{Name: c.name, Unit: c.unit}, false
		for _, name := range c.of {
			if v, ok := sums[name]; ok {
				m.Value, found = m.Value+v, true
			}
		}
		if found {
			all = append(all, m)
		}
	}
	return all, err
}

func number(m *dto.Metric) float64 {
	return m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
}
