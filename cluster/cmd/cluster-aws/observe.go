package main

import (
	"fmt"
	"os"
	"strings"

	"contrib.go.opencensus.io/exporter/prometheus"
	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/observations"
	logging "github.com/ipfs/go-log/v2"
	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opencensus.io/stats/view"

	"github.com/ipfs-aws/ipfs-aws/cluster/door/health"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

// setLogging makes the log plain lines on stderr, at the given level for this
// program and for ipfs-cluster. Libraries say only errors. GOLOG_LOG_LEVEL and
// GOLOG_LOG_FMT, if they are set, win.
func setLogging(level string) error {
	cfg := logging.GetConfig()
	if os.Getenv("GOLOG_LOG_FMT") == "" {
		cfg.Format = logging.PlaintextOutput
	}
	cfg.Stderr = true
	logging.SetupLogging(cfg)
	if os.Getenv("GOLOG_LOG_LEVEL") != "" {
		return nil
	}
	levels := map[string]string{"cluster-aws": level}
	for name := range ipfscluster.LoggingFacilities {
		levels[name] = level
	}
	for name, def := range ipfscluster.LoggingFacilitiesExtra {
		levels[name] = strings.ToLower(def)
	}
	for name, l := range levels {
		if err := logging.SetLogLevel(name, l); err != nil {
			return fmt.Errorf("set the log level of %s to %q: %w", name, l, err)
		}
	}
	return nil
}

// silence keeps libraries from logging, for commands whose errors are returned:
// what they say about a store that closes under a background scan is no news to
// an operator. GOLOG_LOG_LEVEL, if it is set, wins.
func silence() error {
	if os.Getenv("GOLOG_LOG_LEVEL") != "" {
		return nil
	}
	if err := logging.SetLogLevel("*", "fatal"); err != nil {
		return fmt.Errorf("silence the log: %w", err)
	}
	return nil
}

// registerMetrics fills ipfs-cluster's registry, which the health listener
// serves: its own views, the Go runtime, the process, readiness, and who
// and where this peer is.
func registerMetrics(h *health.Health, s *settings.Settings) error {
	registry := observations.PromRegistry
	info := prom.NewGaugeVec(prom.GaugeOpts{Name: "cluster_aws_info", Help: "1; the labels say who and where this peer is."}, []string{"peer", "zone", "task"})
	info.WithLabelValues(s.PeerName, s.Zone, s.TaskID).Set(1)
	for _, c := range []prom.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		h,
		info,
	} {
		if err := registry.Register(c); err != nil {
			return fmt.Errorf("set up metrics: %w", err)
		}
	}
	exporter, err := prometheus.NewExporter(prometheus.Options{Namespace: "ipfscluster", Registry: registry})
	if err != nil {
		return fmt.Errorf("set up metrics: %w", err)
	}
	view.RegisterExporter(exporter)
	if err := view.Register(observations.DefaultViews...); err != nil {
		return fmt.Errorf("set up metrics: %w", err)
	}
	return nil
}
