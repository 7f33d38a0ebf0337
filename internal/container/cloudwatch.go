package container

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// CloudWatchNamespace is where metrics of both programs are in CloudWatch. Their one dimension is Stack.
const CloudWatchNamespace = "ipfs-aws"

// cloudWatchInterval is how often metrics are written. CloudWatch keeps one value a minute.
const cloudWatchInterval = time.Minute

// Metric is a figure for CloudWatch.
type Metric struct {
	Name  string
	Unit  string // one of CloudWatch's: Count, Seconds, …
	Value float64
}

// CloudWatch writes what read returns to w once a minute until the context ends: a line in CloudWatch's embedded
// metric format, which CloudWatch Logs makes metrics of, whoever brings the line there. All nodes of a stack write
// the same metrics, so that they are billed once; Maximum is the worst of them. It blocks.
func CloudWatch(ctx context.Context, w io.Writer, stack string, read func() ([]Metric, error)) error {
	return writeMetrics(ctx, w, stack, read, time.Tick(cloudWatchInterval))
}

func writeMetrics(ctx context.Context, w io.Writer, stack string, read func() ([]Metric, error), tick <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick:
			metrics, err := read()
			if err != nil {
				return fmt.Errorf("read the metrics for CloudWatch: %w", err)
			}
			if len(metrics) == 0 {
				continue
			}
			if _, err := w.Write(embedded(now, stack, metrics)); err != nil {
				return fmt.Errorf("write the metrics for CloudWatch: %w", err)
			}
		}
	}
}

// embedded is a line in the embedded metric format:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
func embedded(now time.Time, stack string, metrics []Metric) []byte {
	type named struct{ Name, Unit string }
	var names []named
	line := map[string]any{"Stack": stack}
	for _, m := range metrics {
		names = append(names, named{m.Name, m.Unit})
		line[m.Name] = m.Value
	}
	line["_aws"] = map[string]any{
		"Timestamp":         now.UnixMilli(),
		"CloudWatchMetrics": []any{map[string]any{"Namespace": CloudWatchNamespace, "Dimensions": [][]string{{"Stack"}}, "Metrics": names}},
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err) // texts and numbers
	}
	return append(text, '\n')
}
