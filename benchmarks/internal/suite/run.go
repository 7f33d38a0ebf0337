package suite

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
)

// Run is a store, at one level, in one round, as a workload sees it. A workload prepares what it needs, and calls Measure once.
type Run struct {
	Context context.Context
	Store   *Store
	Level   string
	Sizes   record.Sizes
	Data    *Data
	Place   *Place

	DS   ds.Batching // at level datastore: the open store
	Node *Node       // at level kubo: the running daemon

	runner   *Runner
	workload *Workload
	round    int
	have     map[string]any
	opened   counters // when the store was opened: what its own counters begin from
	sample   *record.Sample
}

// Once prepares something that several workloads need, the first time it is asked for, and returns it.
func Once[T any](r *Run, what string, prepare func() (T, error)) (T, error) {
	if v, ok := r.have[what]; ok {
		return v.(T), nil
	}
	v, err := prepare()
	if err == nil {
		r.have[what] = v
	}
	return v, err
}

// Keep notes something that was measured and that later workloads need, as if Once had prepared it.
func (r *Run) Keep(what string, v any) { r.have[what] = v }

// Dilation is how many times slower than real everything behind the store runs while Measure measures: 1 for the local disk, which nothing
// slows down.
func (r *Run) Dilation() float64 {
	if r.Store.S3 == "" && r.Store.EFS == nil {
		return 1
	}
	return r.runner.Results.Settings.Dilation
}

// Measure measures what f does. It may be called once by each workload.
func (r *Run) Measure(f func(*Recorder) error) error { return r.measure(r.Dilation(), f) }

// MeasureRealTime is for what a daemon does by its own clock, which nothing slows down.
func (r *Run) MeasureRealTime(f func(*Recorder) error) error { return r.measure(1, f) }

func (r *Run) measure(dilation float64, f func(*Recorder) error) error {
	if r.sample != nil {
		return fmt.Errorf("workload %s measures twice", r.workload.Name)
	}
	if err := r.settle(); err != nil {
		return err
	}
	before, err := r.Place.counters()
	if err != nil {
		return err
	}
	client, err := r.clientCounters(r.Context)
	if err != nil {
		return err
	}
	var used usage
	if r.Node != nil && r.Node.proc != nil {
		if err := r.Node.forgetPeak(); err != nil {
			return fmt.Errorf("measure memory: %w", err)
		}
		if used, err = r.Node.usage(); err != nil {
			return err
		}
	}
	if err := r.Place.dilate(dilation); err != nil {
		return err
	}
	rec := &Recorder{dilation: dilation}
	began, epoch := time.Now(), r.opened
	err = f(rec)
	took := time.Since(began).Seconds() / dilation
	if err == nil {
		err = r.Place.dilate(0)
	}
	if err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return err
	}
	after, err := r.Place.counters()
	if err != nil {
		return err
	}
	delta := after.minus(before)
	s := &record.Sample{
		Round: r.round, Store: r.Store.Name, Level: r.Level, Workload: r.workload.Name, At: began.UTC().Truncate(time.Millisecond),
		Seconds: round6(took), Bytes: rec.bytes, Ops: rec.ops, Latencies: rec.latencies, Steps: rec.steps, S3: delta.s3, EFS: delta.efs,
	}
	if s.S3 != nil {
		s.USD += r.Place.proxy.Class().Cost(*s.S3)
	}
	if s.EFS != nil && r.Store.EFS.Throughput.Mode == "elastic" {
		s.USD += efsmodel.ElasticUSD(s.EFS.MeteredRead, s.EFS.MeteredWritten)
	}
	if r.opened.s3 == epoch.s3 { // the same process as before, so that its counters go on
		if s.Client, err = r.clientDelta(client); err != nil {
			return err
		}
	}
	if r.Node != nil && r.Node.proc != nil {
		now, err := r.Node.usage()
		if err != nil {
			return err
		}
		s.PeakRSS, s.CPU = now.peak, max(0, round6(now.cpu-used.cpu))
	}
	r.sample = s
	return nil
}

func (r *Run) clientDelta(before map[string]int64) (map[string]int64, error) {
	now, err := r.clientCounters(r.Context)
	if err != nil || now == nil {
		return nil, err
	}
	d := map[string]int64{}
	for name, n := range now {
		if n -= before[name]; n != 0 {
			d[name] = n
		}
	}
	return d, nil
}

// settle waits until everything that was written is where it belongs, and nothing is under way.
func (r *Run) settle() error {
	if err := r.drain(r.Context); err != nil {
		return err
	}
	return r.Place.quiet(r.Context)
}

// agree compares the store's own count of requests with the server's, since the store was opened. A lease may be renewed between
// the two looks; then they are looked at once more.
func (r *Run) agree() error {
	if r.Place.proxy == nil {
		return nil
	}
	for try := 0; ; try++ {
		if err := r.settle(); err != nil {
			return err
		}
		client, err := r.clientCounters(r.Context)
		if err != nil || client == nil {
			return err
		}
		now, err := r.Place.counters()
		if err != nil {
			return err
		}
		server := map[string]int64{}
		for op, n := range now.s3.Minus(*r.opened.s3).Requests {
			server[string(op)] = n
		}
		said := map[string]int64{}
		for op, n := range client {
			if slices.Contains([]string{"PUT", "GET", "HEAD", "LIST", "DELETE"}, op) && n > 0 {
				said[op] = n
			}
		}
		if maps.Equal(server, said) {
			r.runner.note(func(res *record.Results) { res.Agreed++ })
			return nil
		}
		if try == 2 {
			r.runner.note(func(res *record.Results) {
				res.Mismatch = append(res.Mismatch, record.Difference{Round: r.round, Store: r.Store.Name, Level: r.Level, Server: server, Client: said})
			})
			return nil
		}
	}
}

// Open opens the store, or starts the daemon.
func (r *Run) Open() error {
	c, err := r.Place.counters()
	if err != nil {
		return err
	}
	r.opened = c
	if r.Level == record.Kubo {
		return r.Node.Start(r.Context)
	}
	r.DS, err = r.Store.Open(r.Context, r.Place)
	return err
}

// Close closes the store, or stops the daemon, in order.
func (r *Run) Close() error {
	if r.Level == record.Kubo {
		return r.Node.Stop()
	}
	if r.DS == nil {
		return nil
	}
	d := r.DS
	r.DS = nil
	return d.Close()
}

// Cold closes the store, takes away what a new task on the same data would not have, and opens it again.
func (r *Run) Cold() error {
	if err := r.agree(); err != nil {
		return err
	}
	if err := r.Close(); err != nil {
		return err
	}
	if r.Store.Cold != nil {
		if err := r.Store.Cold(r.Context, r.Place); err != nil {
			return fmt.Errorf("make %s cold: %w", r.Store.Name, err)
		}
	}
	if err := r.Place.forget(); err != nil {
		return err
	}
	return r.Open()
}

// Settled waits until nothing that was done before is under way any more.
func (r *Run) Settled() error { return r.settle() }

// Agree is to be called before a workload closes the store by itself.
func (r *Run) Agree() error { return r.agree() }

// Recorder takes down what happens during Measure. Safe for concurrent use.
type Recorder struct {
	dilation float64

	mu        sync.Mutex
	bytes     int64
	ops       int64
	latencies []float64
	steps     []record.Step
}

// Op measures one operation, which returns how many bytes of content it was about.
func (rec *Recorder) Op(f func() (int64, error)) error {
	began := time.Now()
	n, err := f()
	took := time.Since(began)
	if err != nil {
		return err
	}
	rec.Took(took, n)
	return nil
}

// Took notes an operation that somebody else has timed.
func (rec *Recorder) Took(d time.Duration, bytes int64) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.ops++
	rec.bytes += bytes
	rec.latencies = append(rec.latencies, round3(d.Seconds()*1000/rec.dilation))
}

// Count notes operations that were not timed one by one.
func (rec *Recorder) Count(ops, bytes int64) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.ops += ops
	rec.bytes += bytes
}

// Step does n operations with so many clients at once, and notes them as a step.
func (rec *Recorder) Step(ctx context.Context, clients, n int, op func(i int) (int64, error)) (record.Step, error) {
	one := &Recorder{dilation: rec.dilation}
	began := time.Now()
	err := Parallel(ctx, clients, n, func(i int) error { return one.Op(func() (int64, error) { return op(i) }) })
	s := record.Step{Clients: clients, Seconds: round6(time.Since(began).Seconds() / rec.dilation), Ops: one.ops, Bytes: one.bytes, Latencies: one.latencies}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.ops += one.ops
	rec.bytes += one.bytes
	rec.steps = append(rec.steps, s)
	return s, err
}

// Parallel calls f for 0 to n-1, so many at a time, and returns the first error, after which no more are begun.
func Parallel(ctx context.Context, workers, n int, f func(i int) error) error {
	next := make(chan int)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

func round3(v float64) float64 { return math.Round(v*1e3) / 1e3 }
func round6(v float64) float64 { return max(math.Round(v*1e6)/1e6, 1e-6) }

// Wait lets so many real seconds pass.
func (r *Run) Wait(seconds float64) error {
	return sleep(r.Context, time.Duration(seconds*float64(time.Second)))
}
