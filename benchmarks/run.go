package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/report"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

// Exit codes of run, besides 0 and 1.
const (
	interrupted   = 130
	budgetReached = 3
)

type runFlags struct {
	profile, out, resume, ipfs, s3bin string
	scale                             float64
	set                               record.Settings
}

func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use: "run", Short: "measure, and write results.json, report.md and report.html", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return run(c.Context(), c, f) },
	}
	fl := c.Flags()
	fl.StringVar(&f.profile, "profile", "short", "where the settings begin: short, full, reference or smoke")
	fl.Float64Var(&f.scale, "scale", 1, "factor on all sizes of the profile")
	fl.IntVar(&f.set.Samples, "samples", 0, "samples of each figure (default: the profile's)")
	fl.Float64Var(&f.set.Dilation, "dilation", 0, "how many times slower than real the models run, with the results divided by it (default: the profile's)")
	fl.StringSliceVar(&f.set.Stores, "stores", nil, "names of stores, or all (default: the profile's)")
	fl.StringSliceVar(&f.set.Workloads, "workloads", nil, "names of workloads, or all (default: the profile's)")
	fl.StringSliceVar(&f.set.Levels, "levels", nil, "datastore: the store alone; kubo: inside a real daemon (default: the profile's, mostly both)")
	fl.StringVar(&f.set.S3Class, "s3-class", s3model.Standard.Name, "storage class of the S3 stores: standard, intelligent-tiering or express")
	fl.StringVar(&f.set.Endpoint, "s3-endpoint", "", "a real S3-compatible server, with --bucket (default with --bucket: AWS)")
	fl.StringVar(&f.set.Bucket, "bucket", "", "a real bucket, with the credentials of the AWS environment; everything is under a prefix of its own, and removed")
	fl.StringVar(&f.set.Region, "region", "", "the region of the bucket (default: the AWS environment's)")
	fl.StringVar(&f.set.EFSPath, "efs-path", "", "a folder on a real EFS mount, for the stores on EFS")
	fl.Float64Var(&f.set.MaxUSD, "max-usd", 1, "what may be spent at real services; the run stops before it is overspent")
	fl.IntVar(&f.set.Parallel, "parallel", 1, "stores measured at the same time; above 1 the times mean nothing")
	fl.StringVar(&f.out, "out", "", "folder of the results (default: benchmarks/results/<date>)")
	fl.StringVar(&f.resume, "resume", "", "go on with the run whose results are in this folder, with its settings")
	fl.StringVar(&f.ipfs, "ipfs", "", "ipfs-aws (default: bin/ipfs-aws of the checkout)")
	fl.StringVar(&f.s3bin, "versitygw", "", "versitygw (default: bin/versitygw of the checkout)")
	return c
}

func run(ctx context.Context, c *cobra.Command, f runFlags) error {
	res, out, err := f.results(c)
	if err != nil {
		return err
	}
	r := &suite.Runner{Results: res, Out: out, Log: os.Stderr}
	if r.IPFS, err = binary(f.ipfs, "ipfs-aws"); err != nil {
		return err
	}
	if r.S3Bin, err = binary(f.s3bin, "versitygw"); err != nil {
		return err
	}
	failed := r.Run(ctx)
	if len(res.Samples) > 0 { // whatever happened, what was measured is reported
		if err := report.Write(res, out); err != nil {
			return errors.Join(failed, err)
		}
		fmt.Printf("%s\n%s\n%s\n", filepath.Join(out, record.FileName), filepath.Join(out, report.Markdown), filepath.Join(out, report.HTML))
	}
	switch {
	case errors.Is(failed, s3model.ErrBudget):
		return &exitError{failed, budgetReached}
	case errors.Is(failed, context.Canceled):
		return &exitError{fmt.Errorf("interrupted with %d samples; `go run ./benchmarks run --resume %s` goes on", len(res.Samples), out), interrupted}
	case failed != nil:
		return failed
	case len(res.Mismatch) > 0:
		m := res.Mismatch[0]
		return fmt.Errorf("the metering is wrong in %d of %d comparisons, first %s at level %s: the server counted %v, the store %v", len(res.Mismatch), len(res.Mismatch)+res.Agreed, m.Store, m.Level, m.Server, m.Client)
	}
	return nil
}

// results are those to go on with, or new ones.
func (f *runFlags) results(c *cobra.Command) (*record.Results, string, error) {
	if f.resume != "" {
		res, err := record.Read(f.resume)
		if err != nil {
			return nil, "", err
		}
		for _, name := range []string{"profile", "scale", "samples", "dilation", "stores", "workloads", "levels", "s3-class", "s3-endpoint", "bucket", "region", "efs-path", "out"} {
			if c.Flags().Changed(name) {
				return nil, "", fmt.Errorf("--%s: cannot be changed with --resume, which takes the settings of %s", name, f.resume)
			}
		}
		if c.Flags().Changed("max-usd") {
			res.Settings.MaxUSD = f.set.MaxUSD
		}
		if n := res.DropMismatched(); n > 0 {
			fmt.Fprintf(os.Stderr, "%d samples are measured once more: there, server and store had counted differently\n", n)
		}
		return res, f.resume, nil
	}
	p, err := findProfile(f.profile)
	if err != nil {
		return nil, "", err
	}
	set := f.set
	set.Profile, set.Scale = p.name, f.scale
	if f.scale <= 0 {
		return nil, "", fmt.Errorf("--scale %g: use a number above 0", f.scale)
	}
	set.Sizes = scaled(p.sizes, f.scale)
	orDefault(&set.Samples, p.samples)
	orDefault(&set.Dilation, p.dilation)
	if set.Bucket != "" || set.EFSPath != "" {
		if c.Flags().Changed("dilation") && set.Dilation != 1 {
			return nil, "", fmt.Errorf("--dilation %g: a real service cannot be slowed down: leave it out", set.Dilation)
		}
		set.Dilation = 1
	}
	if len(set.Stores) == 0 {
		set.Stores = p.stores
	}
	if len(set.Workloads) == 0 {
		set.Workloads = p.workloads
	}
	if len(set.Levels) == 0 {
		set.Levels = p.levels
	}
	if len(set.Levels) == 0 {
		set.Levels = record.Levels
	}
	if err := check(set); err != nil {
		return nil, "", err
	}
	out := f.out
	if out == "" {
		root, err := checkout()
		if err != nil {
			return nil, "", err
		}
		out = filepath.Join(root, "benchmarks", "results", time.Now().Format("2006-01-02-150405"))
	}
	if _, err := os.Stat(filepath.Join(out, record.FileName)); err == nil {
		return nil, "", fmt.Errorf("--out %s: holds results already: choose another folder, or go on with --resume %s", out, out)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, "", err
	}
	return &record.Results{
		Schema: record.Schema, Settings: set, Machine: record.ThisMachine(), Versions: record.BuiltWith(), Started: time.Now().UTC().Truncate(time.Second),
	}, out, nil
}

func check(set record.Settings) error {
	for _, l := range set.Levels {
		if l != record.Datastore && l != record.Kubo {
			return fmt.Errorf("level %q is not known: use datastore, kubo or both", l)
		}
	}
	switch {
	case set.Samples < 1:
		return fmt.Errorf("--samples %d: use 1 or more; %d are needed to decide anything", set.Samples, record.Least)
	case set.Dilation <= 0:
		return fmt.Errorf("--dilation %g: use a number above 0; 1 is real time", set.Dilation)
	case set.MaxUSD <= 0:
		return fmt.Errorf("--max-usd %g: use an amount above 0", set.MaxUSD)
	case set.Parallel < 1:
		return fmt.Errorf("--parallel %d: use 1 or more", set.Parallel)
	case set.Endpoint != "" && set.Bucket == "":
		return errors.New("--s3-endpoint needs --bucket: an existing bucket there")
	}
	if _, err := s3model.FindClass(set.S3Class); err != nil {
		return err
	}
	if _, err := suite.FindStores(set.Stores); err != nil {
		return err
	}
	_, err := suite.FindWorkloads(set.Workloads)
	return err
}

func orDefault[T comparable](v *T, def T) {
	if reflect.ValueOf(*v).IsZero() {
		*v = def
	}
}

// checkout is the folder of the repository: the nearest one above with a go.mod.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the working directory: run it in the checkout, or say --out, --ipfs and --versitygw")
		}
		dir = filepath.Dir(dir)
	}
}

func binary(path, name string) (string, error) {
	if path == "" {
		root, err := checkout()
		if err != nil {
			return "", err
		}
		path = filepath.Join(root, "bin", name)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no %s at %s: run `make build`, or say where it is with --%s", name, path, map[string]string{"ipfs-aws": "ipfs", "versitygw": "versitygw"}[name])
	}
	return filepath.Abs(path)
}
