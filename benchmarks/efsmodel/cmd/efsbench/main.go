// Command efsbench measures the efs blockstore against stock flatfs with sync:
// true on the EFS model, side by side in one run, and prints the ratios.
//
//	go run ./benchmarks/efsmodel/cmd/efsbench -ipfs bin/ipfs-aws
//
// It needs root, /dev/fuse, 3 GB of memory, and an otherwise idle machine.
// All times are those of the model: the dilation is taken out, which in the rows
// with real kubo is twice the flag's. Each figure is the median of the samples,
// which alternate between the two stores.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
)

func main() {
	beStockKubo()
	efsmodel.Init()
	efsmodel.Isolate()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type flags struct {
	profile, throughput, ipfs, only string
	provisioned, stored             int64
	dilation                        float64
	blocks, samples                 int
	limitOps, json                  bool
}

func parseFlags() flags {
	var f flags
	flag.StringVar(&f.profile, "profile", "onezone", "onezone or regional")
	flag.StringVar(&f.throughput, "throughput", "elastic", "elastic, provisioned or bursting")
	flag.Int64Var(&f.provisioned, "provisioned", 100, "MiB/s, with -throughput provisioned")
	flag.Int64Var(&f.stored, "stored", 100, "GiB that the file system holds, with -throughput bursting")
	flag.Float64Var(&f.dilation, "dilation", 4, "how many times slower than EFS the model runs, against the machine's noise")
	flag.BoolVar(&f.limitOps, "limit-ops", false, "keep to the requests per second that AWS gives for the profile")
	flag.IntVar(&f.blocks, "blocks", 51_000, "blocks in the store beforehand")
	flag.IntVar(&f.samples, "samples", 3, "samples of each figure")
	flag.StringVar(&f.ipfs, "ipfs", "", "the kubo to measure beside stock kubo (bin/ipfs-aws), for the rows with real kubo; none: they are left out")
	flag.StringVar(&f.only, "only", "", "regular expression of the rows to measure")
	flag.BoolVar(&f.json, "json", false, "print JSON instead of a table")
	flag.Parse()
	return f
}

// row is one line of the report.
type row struct {
	Name string
	// Target is what Ratio must be at least; or at most, if Share; or what Efs
	// must be at most, if Lower.
	Target float64
	Share  bool `json:",omitempty"`
	Lower  bool `json:",omitempty"`
	// Stock and Efs are the medians, in Unit.
	Unit       string
	Stock, Efs float64
	// Ratio says how many times better efs is; if Share, what share of stock's it is.
	Ratio float64
	Note  string `json:",omitempty"`
}

func (r row) ok() bool {
	switch {
	case r.Lower:
		return r.Efs <= r.Target
	case r.Share:
		return r.Ratio <= r.Target
	}
	return r.Ratio >= r.Target
}

func run() error {
	f := parseFlags()
	if err := efsmodel.Available(); err != nil {
		return fmt.Errorf("efsbench: %w", err)
	}
	only, err := regexp.Compile(f.only)
	if err != nil {
		return fmt.Errorf("efsbench: -only: %w", err)
	}
	profile, err := efsmodel.FindProfile(f.profile)
	if err != nil {
		return err
	}
	base, remove, err := efsmodel.Scratch()
	if err != nil {
		return err
	}
	b := &bench{flags: f, only: only, base: base, backing: filepath.Join(base, "backing"), mnt: filepath.Join(base, "mnt")}
	err = errors.Join(os.Mkdir(b.backing, 0o755), os.Mkdir(b.mnt, 0o755))
	if err == nil {
		b.mount, err = efsmodel.Mount(efsmodel.Options{
			Backing: b.backing, Mountpoint: b.mnt, Profile: profile,
			Throughput: efsmodel.Throughput{
				Mode: f.throughput, MiBps: f.provisioned, StoredGiB: f.stored, CreditBytes: efsmodel.InitialCredits,
			},
			LimitOps: f.limitOps,
			Dilation: f.dilation,
			// of a kubo repo, its datastores apart
			FolderDepth: 2,
		})
	}
	if err == nil {
		err = errors.Join(b.mount.SetDilation(0), b.all(), b.mount.Unmount())
	}
	if err = errors.Join(err, remove()); err != nil {
		return err
	}
	return b.report()
}

func (b *bench) report() error {
	if b.flags.json {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(b.rows)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "work\tstock\tefs\tunit\tratio\ttarget\t\tnote")
	for _, r := range b.rows {
		verdict := "ok"
		if !r.ok() {
			verdict = "MISSED"
		}
		target := fmt.Sprintf("≥ %g×", r.Target)
		switch {
		case r.Lower:
			target = fmt.Sprintf("≤ %g %s", r.Target, r.Unit)
		case r.Share:
			target = fmt.Sprintf("≤ %g×", r.Target)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.2f×\t%s\t%s\t%s\n", r.Name, figure(r.Stock), figure(r.Efs), r.Unit, r.Ratio, target, verdict, r.Note)
	}
	return w.Flush()
}

func figure(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}

func median[T cmp.Ordered](v []T) T {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// seconds is the model's time for a time on the machine's clock.
func seconds(d time.Duration, dilation float64) float64 { return d.Seconds() / dilation }
