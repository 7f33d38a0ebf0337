package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ipfs-aws/ipfs-aws/plugin/health"
)

// How long a node in a container goes on serving after it was told to end. Whoever
// sends it requests asks for its readiness every second or every few, and sends
// more until it has heard the answer. Together with kubo's own end, which takes
// about a second, an idle node is gone in half of the 10 s that docker stop
// grants; a busy one keeps most of the 120 s of ECS for kubo's own end, which
// lets requests finish as well.
const (
	drainAtLeast = 3 * time.Second
	drainQuiet   = 2 * time.Second  // without a request, and none in flight, before it ends
	drainAtMost  = 15 * time.Second // whatever comes
	drainLook    = 250 * time.Millisecond
)

// drained takes the signals that end the process from kubo, which would close the
// node at the first one, and returns a context that ends once the node has been
// taken out and what it was asked has been answered. A second signal ends the
// process at once.
func drained(ctx context.Context) context.Context {
	signals := make(chan os.Signal, 2)
	ending := []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM}
	// upstream: signals
	signal.Reset(ending...) // takes them from everybody
	signal.Notify(signals, ending...)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		sig := <-signals
		go func() {
			<-signals
			say("a second signal: ending at once, without closing the node")
			os.Exit(1)
		}()
		if health.Drain() {
			say("%s: not ready from now on, serving until nobody asks any more, %s at most", sig, drainAtMost)
			awaitQuiet(gatewayTraffic, time.Now, time.Sleep)
		}
		cancel()
	}()
	return ctx
}

// awaitQuiet waits until the gateway has had nothing to do for a while.
func awaitQuiet(traffic func() (inFlight, answered float64, err error), now func() time.Time, sleep func(time.Duration)) {
	start := now()
	quiet, seen := start, -1.0
	for {
		inFlight, answered, err := traffic()
		at := now()
		if err != nil || inFlight > 0 || answered != seen {
			quiet, seen = at, answered
		}
		if at.Sub(start) >= drainAtMost || at.Sub(start) >= drainAtLeast && at.Sub(quiet) >= drainQuiet {
			return
		}
		sleep(drainLook)
	}
}

// gatewayTraffic is what kubo's metrics tell of its gateway: how many requests it
// works on, and how many it has answered.
//
// upstream: gateway-metrics
func gatewayTraffic() (inFlight, answered float64, err error) {
	families, err := prometheus.DefaultGatherer.Gather()
	if len(families) == 0 && err == nil {
		err = errors.New("there are no metrics")
	}
	for _, f := range families { // an error of one metric spares the others
		for _, m := range f.GetMetric() {
			switch {
			case f.GetName() == "ipfs_http_gw_concurrent_requests":
				inFlight += m.GetGauge().GetValue()
			case f.GetName() == "ipfs_http_requests_total" && label(m, "handler") == "gateway":
				answered += m.GetCounter().GetValue()
			}
		}
	}
	if len(families) > 0 {
		err = nil
	}
	return inFlight, answered, err
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
