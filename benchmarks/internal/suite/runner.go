package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
)

// StockEnv in the environment makes the benchmark's own program a stock kubo: upstream's, with go-ds-s3 0.11 and nothing of ours.
const StockEnv = "IPFS_AWS_BENCH_STOCK_KUBO"

// Runner runs.
type Runner struct {
	Results *record.Results
	Out     string    // folder of the results
	Log     io.Writer // what happens, a line each
	IPFS    string    // ipfs-aws
	S3Bin   string    // versitygw

	stores    []*Store
	workloads []*Workload
	work      string // folder for everything that goes when the run is over
	scratch   string // in memory, for what is behind the EFS model
	upstream  s3model.Upstream
	server    *s3model.Server
	prefix    string // in a real bucket
	places    atomic.Int64
	data      *Data
	cleanups  []func() error // when the run is over

	mu     sync.Mutex
	failed []error
}

// note changes the results.
func (r *Runner) note(f func(*record.Results)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r.Results)
}

func (r *Runner) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.Log, format+"\n", args...)
}

// save writes the results.
func (r *Runner) save() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.upstream.Budget; b != nil {
		r.Results.SpentUSD = b.Spent()
	}
	return r.Results.Write(r.Out)
}

// Run measures everything that the results do not have yet, and writes them down as it goes. Results are complete, or say why they are
// not, whatever it returns.
func (r *Runner) Run(ctx context.Context) (err error) {
	if err := r.prepare(ctx); err != nil {
		return errors.Join(err, r.finish())
	}
	units := r.units()
	r.say("%d stores × %d workloads × %d levels, %d rounds: %d units", len(r.stores), len(r.workloads), len(r.Results.Settings.Levels), r.Results.Settings.Samples, len(units))
	if r.upstream.Budget == nil { // what is real has no ceiling that could be measured for nothing
		err = r.ceilings(ctx)
	}
	if err == nil {
		err = Parallel(ctx, r.Results.Settings.Parallel, len(units), func(i int) error {
			u := units[i]
			began := time.Now()
			err := r.unit(ctx, u)
			if saved := r.save(); saved != nil {
				return saved
			}
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case r.upstream.Budget.Reached():
				return fmt.Errorf("%w: $%.4f of $%.2f are spent; continue with --resume and a larger --max-usd", s3model.ErrBudget, r.upstream.Budget.Spent(), r.Results.Settings.MaxUSD)
			case err != nil:
				r.mu.Lock()
				r.failed = append(r.failed, fmt.Errorf("%s, %s, round %d: %w", u.store.Name, u.level, u.round+1, err))
				r.mu.Unlock()
				r.say("[%d/%d] FAILED %s, %s, round %d: %v", i+1, len(units), u.store.Name, u.level, u.round+1, err)
				return nil
			}
			r.say("[%d/%d] %s, %s, round %d: %.1f s", i+1, len(units), u.store.Name, u.level, u.round+1, time.Since(began).Seconds())
			return nil
		})
	}
	if err == nil {
		err = errors.Join(r.failed...)
	}
	r.note(func(res *record.Results) {
		res.Stopped, res.Finished = "", nil
		if err != nil {
			res.Stopped = lastLine(err.Error())
			return
		}
		now := time.Now().UTC().Truncate(time.Second)
		res.Finished = &now
	})
	return errors.Join(err, r.finish(), r.save())
}

// unit is a store at a level in a round.
type unit struct {
	store *Store
	level string
	round int
}

// units are all units, round by round, each beginning with another store.
func (r *Runner) units() []unit {
	var all []unit
	for round := range r.Results.Settings.Samples {
		for i := range r.stores {
			s := r.stores[(i+round)%len(r.stores)]
			for _, level := range r.Results.Settings.Levels {
				if len(r.missing(unit{s, level, round})) > 0 {
					all = append(all, unit{s, level, round})
				}
			}
		}
	}
	return all
}

// missing are the workloads that a unit has no sample of.
func (r *Runner) missing(u unit) []*Workload {
	var m []*Workload
	for _, w := range r.workloads {
		f := w.Datastore
		if u.level == record.Kubo {
			f = w.Kubo
		}
		if f != nil && !r.Results.Has(u.round, record.Key{Store: u.store.Name, Level: u.level, Workload: w.Name}) {
			m = append(m, w)
		}
	}
	return m
}

func (r *Runner) unit(ctx context.Context, u unit) (err error) {
	p, err := r.place(ctx, u.store, u.level, u.round)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	run := &Run{
		Context: ctx, Store: u.store, Level: u.level, Sizes: r.Results.Settings.Sizes, Data: r.data, Place: p,
		runner: r, round: u.round, have: map[string]any{},
	}
	if u.level == record.Kubo {
		home, err := os.MkdirTemp(r.work, "home-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
		bin, env := r.IPFS, []string(nil)
		if u.store.Stock {
			if bin, err = os.Executable(); err != nil {
				return err
			}
			env = []string{StockEnv + "=1"}
		}
		if run.Node, err = newNode(ctx, bin, env, u.store, p, home); err != nil {
			return err
		}
	}
	if err := run.Open(); err != nil {
		return errors.Join(err, run.Close())
	}
	err = func() error {
		r.mu.Lock()
		todo := r.missing(u)
		r.mu.Unlock()
		for _, w := range todo {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := r.reserve(u.store); err != nil {
				return err
			}
			f := w.Datastore
			if u.level == record.Kubo {
				f = w.Kubo
			}
			run.workload, run.sample = w, nil
			began := time.Now()
			if err := f(run); err != nil {
				return fmt.Errorf("%s: %w", w.Name, err)
			}
			if run.sample == nil {
				return fmt.Errorf("workload %s measured nothing", w.Name)
			}
			r.say("    %s %s %s: %.2f s measured (%.1f s in all)", u.store.Name, u.level, w.Name, run.sample.Seconds, time.Since(began).Seconds())
			r.note(func(res *record.Results) { res.Samples = append(res.Samples, *run.sample) })
			if err := r.save(); err != nil {
				return err
			}
		}
		return run.agree()
	}()
	return errors.Join(err, p.dilate(0), run.Close())
}

// reserve puts money aside before work on a real file system, which nobody can stop in the middle: what the work of a
// unit is billed for at most, each byte of it being read and written four times, and 64 KiB for each small thing.
func (r *Runner) reserve(s *Store) error {
	if r.Results.Settings.EFSPath == "" || s.EFS == nil {
		return nil
	}
	z := r.Results.Settings.Sizes
	small := int64(z.TreeFiles+z.GatewayFiles+z.GatewayRequests*8+z.Ranges+z.Blocks+z.GarbageBlocks) * 64 << 10
	bytes := 4*z.FileBytes + small
	return r.upstream.Budget.Reserve(efsmodel.ElasticUSD(bytes, bytes))
}

// prepare finds everything that the run needs, and fails with one line that says what is missing.
func (r *Runner) prepare(ctx context.Context) (err error) {
	set := &r.Results.Settings
	if r.stores, err = FindStores(set.Stores); err != nil {
		return err
	}
	if r.workloads, err = FindWorkloads(set.Workloads); err != nil {
		return err
	}
	if _, err := s3model.FindClass(set.S3Class); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "ipfs-aws-bench-"); err != nil {
		return err
	}
	r.data = &Data{dir: r.work}
	if err := r.prepareEFS(); err != nil {
		return err
	}
	if err := r.prepareS3(ctx); err != nil {
		return err
	}
	r.describe()
	return r.save()
}

func (r *Runner) drop(keep func(*Store) bool, why string) {
	var kept []*Store
	for _, s := range r.stores {
		if keep(s) {
			kept = append(kept, s)
			continue
		}
		r.say("skipped: %s: %s", s.Name, why)
		r.note(func(res *record.Results) { res.Skipped = append(res.Skipped, record.Skipped{Store: s.Name, Why: why}) })
	}
	r.stores = kept
}

func (r *Runner) prepareEFS() error {
	r.note(func(res *record.Results) { res.Skipped = nil })
	if path := r.Results.Settings.EFSPath; path != "" {
		st, err := os.Stat(path)
		if err != nil || !st.IsDir() {
			return fmt.Errorf("--efs-path %s: is no folder: mount the file system there first", path)
		}
		return nil
	}
	if why := efsmodel.Available(); why != nil {
		r.drop(func(s *Store) bool { return s.EFS == nil }, "the EFS model cannot be mounted here: "+why.Error())
		return nil
	}
	scratch, remove, err := efsmodel.Scratch()
	if err != nil {
		return err
	}
	r.scratch = scratch
	r.cleanup(remove)
	return nil
}

func (r *Runner) prepareS3(ctx context.Context) error {
	set := r.Results.Settings
	uses := false
	for _, s := range r.stores {
		uses = uses || s.S3 != ""
	}
	real := set.Endpoint != "" || set.Bucket != "" || set.EFSPath != ""
	var budget *s3model.Budget
	if real {
		budget = s3model.NewBudget(set.MaxUSD, r.Results.SpentUSD)
		r.upstream.Budget = budget
	}
	if !uses {
		return nil
	}
	if set.Bucket != "" {
		up, err := realUpstream(ctx, set)
		if err != nil {
			return err
		}
		r.prefix = "ipfs-aws-bench-" + time.Now().UTC().Format("20060102-150405")
		if err := up.Check(ctx, set.Bucket, r.prefix); err != nil {
			return err
		}
		r.upstream = up
		r.upstream.Budget = budget
		r.drop(func(s *Store) bool { return s.S3 != s3model.Express.Name }, "a directory bucket wants sessions, which only the model does without")
		return nil
	}
	server, err := s3model.StartServer(ctx, r.S3Bin, r.work)
	if err != nil {
		return err
	}
	r.server = server
	r.upstream = server.Upstream()
	r.upstream.Budget = budget
	r.cleanup(server.Stop)
	return nil
}

func (r *Runner) dropBucket(name string) error {
	return os.RemoveAll(filepath.Join(r.work, "data", name))
}

func (r *Runner) cleanup(f func() error) { r.cleanups = append(r.cleanups, f) }

// finish takes down what prepare has set up.
func (r *Runner) finish() error {
	var errs []error
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		errs = append(errs, r.cleanups[i]())
	}
	r.cleanups = nil
	if r.work != "" {
		errs = append(errs, os.RemoveAll(r.work))
	}
	return errors.Join(errs...)
}

// describe writes down what is measured.
func (r *Runner) describe() {
	r.note(func(res *record.Results) {
		res.Stores, res.Workloads = nil, nil
		for _, s := range r.stores {
			model := "local disk"
			if s.S3 != "" {
				model = s.model(r.class(s))
			} else if s.EFS != nil {
				model = s.EFS.Name()
			}
			program := "ipfs-aws"
			if s.Stock {
				program = "stock kubo"
			}
			res.Stores = append(res.Stores, record.Store{Name: s.Name, Title: s.Title, What: s.What, Model: model, Baseline: s.Baseline, Program: program})
		}
		for _, w := range r.workloads {
			res.Workloads = append(res.Workloads, record.Workload{Name: w.Name, Title: w.Title, What: w.What, Kind: w.Kind})
		}
	})
}

// models are the distinct models of the run, with a place maker for each.
func (r *Runner) models() map[string]*Store {
	m := map[string]*Store{}
	for _, s := range r.stores {
		if s.S3 != "" {
			m["s3-"+r.class(s).Name] = &Store{Name: "ceiling-s3-" + r.class(s).Name, S3: s.S3}
		}
		if s.EFS != nil {
			m[s.EFS.Name()] = &Store{Name: "ceiling-" + s.EFS.Name(), EFS: s.EFS}
		}
	}
	return m
}
