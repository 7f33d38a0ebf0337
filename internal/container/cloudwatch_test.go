package container

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The line is what the specification of the embedded metric format asks for.
func TestEmbeddedMetrics(t *testing.T) {
	line := embedded(time.UnixMilli(1_700_000_000_123), "ipfs", []Metric{{"PinsFailed", "Count", 3}, {"UploadsWaiting", "Seconds", 1.5}})
	require.Equal(t, `{"PinsFailed":3,"Stack":"ipfs","UploadsWaiting":1.5,"_aws":{"CloudWatchMetrics":[{"Dimensions":[["Stack"]],`+
		`"Metrics":[{"Name":"PinsFailed","Unit":"Count"},{"Name":"UploadsWaiting","Unit":"Seconds"}],"Namespace":"ipfs-aws"}],"Timestamp":1700000000123}}`+"\n", string(line))
}

func TestCloudWatchWritesALineAtEachTick(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tick := make(chan time.Time)
	var out bytes.Buffer
	done := make(chan error)
	round := 0.0
	go func() {
		done <- writeMetrics(ctx, &out, "ipfs", func() ([]Metric, error) {
			if round++; round == 2 {
				return nil, nil // a blockstore without metrics: no line
			}
			return []Metric{{"A", "Count", round}}, nil
		}, tick)
	}()
	for range 3 {
		tick <- time.UnixMilli(0)
	}
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, 2, bytes.Count(out.Bytes(), []byte("\n")))
	require.Contains(t, out.String(), `{"A":3,`)

	go func() {
		done <- writeMetrics(t.Context(), &out, "ipfs", func() ([]Metric, error) { return nil, errors.New("gone") }, tick)
	}()
	tick <- time.UnixMilli(0)
	require.ErrorContains(t, <-done, "gone")
}
