package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/report"
)

func compareCommand() *cobra.Command {
	all := false
	c := &cobra.Command{
		Use: "compare A B", Short: "say what changed from A to B, and whether it is outside the noise", Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			a, err := record.Read(args[0])
			if err != nil {
				return err
			}
			b, err := record.Read(args[1])
			if err != nil {
				return err
			}
			return compare(a, b, all)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "also show what is within the noise")
	return c
}

func compare(a, b *record.Results, all bool) error {
	for _, d := range differences(a, b) {
		fmt.Println("beware:", d)
	}
	changes := report.Compare(a, b)
	if len(changes) == 0 {
		return fmt.Errorf("the two have no measurement in common: compare results of the same stores and workloads")
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "STORE\tLEVEL\tWORKLOAD\tFIGURE\tA\tB\tB÷A\tVERDICT")
	within := 0
	for _, c := range changes {
		if c.Verdict == report.Same || c.Verdict == report.Undecided {
			within++
			if !all {
				continue
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%s\n", c.Key.Store, c.Key.Level, c.Key.Workload, c.Figure, c.A, c.B, c.Ratio, c.Verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("%d figures: %d changed, %d within the noise or too wide to decide\n", len(changes), len(changes)-within, within)
	return nil
}

// differences are those between the circumstances of two runs, which make their times incomparable.
func differences(a, b *record.Results) []string {
	var d []string
	say := func(what string, x, y any) {
		if fmt.Sprint(x) != fmt.Sprint(y) {
			d = append(d, fmt.Sprintf("%s: A has %v, B has %v", what, x, y))
		}
	}
	say("sizes", a.Settings.Sizes, b.Settings.Sizes)
	say("dilation", a.Settings.Dilation, b.Settings.Dilation)
	say("stores at the same time", a.Settings.Parallel, b.Settings.Parallel)
	say("storage class", a.Settings.S3Class, b.Settings.S3Class)
	say("real services", strings.Join([]string{a.Settings.Endpoint, a.Settings.Bucket, a.Settings.EFSPath}, " "), strings.Join([]string{b.Settings.Endpoint, b.Settings.Bucket, b.Settings.EFSPath}, " "))
	say("processor", fmt.Sprint(a.Machine.Cores, " × ", a.Machine.CPU), fmt.Sprint(b.Machine.Cores, " × ", b.Machine.CPU))
	return d
}
