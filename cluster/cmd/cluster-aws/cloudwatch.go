package main

import (
	"context"
	"os"

	"github.com/ipfs-cluster/ipfs-cluster/observations"

	"github.com/ipfs-aws/ipfs-aws/cluster/peer"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
	"github.com/ipfs-aws/ipfs-aws/internal/container"
)

// forCloudWatch are the metrics that an operator has to act on, each made of one or more of /metrics.
var forCloudWatch = []struct {
	name string
	of   []string
}{
	{"PinsFailed", []string{peer.FailedMetric}},
	{"PinsWithoutContent", []string{peer.StalledMetric, peer.WaitingMetric}},
}

// writeMetrics writes metrics to the log until the context ends, if CLUSTER_CLOUDWATCH_STACK asks for it.
func writeMetrics(ctx context.Context, s *settings.Settings) {
	if s.CloudWatchStack == "" {
		return
	}
	go func() {
		if err := container.CloudWatch(ctx, os.Stdout, s.CloudWatchStack, gatherMetrics); err != nil {
			logger.Error(err)
		}
	}()
}

func gatherMetrics() (all []container.Metric, err error) {
	families, err := observations.PromRegistry.Gather()
	if len(families) > 0 {
		err = nil // an error of one metric spares the others
	}
	sums := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sums[f.GetName()] += m.GetGauge().GetValue()
		}
	}
	for _, c := range forCloudWatch {
		m := container.Metric{Name: c.name, Unit: "Count"}
		for _, name := range c.of {
			m.Value += sums[name]
		}
		all = append(all, m)
	}
	return all, err
}
