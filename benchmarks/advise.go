package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/advise"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
	"github.com/ipfs-aws/ipfs-aws/internal/bill"
)

type adviseFlags struct {
	stored, added, served, cache string
	peers, free                  string
	results, metrics, explain    string
	latency                      time.Duration
	use                          advise.Use
	tasks                        int
	cpu, gb                      float64
	x86                          bool
}

func adviseCommand() *cobra.Command {
	var f adviseFlags
	c := &cobra.Command{
		Use: "advise", Short: "calculate the monthly bill of each blockstore, and name the cheapest that does", Args: cobra.NoArgs,
		Long: "Calculates the monthly bill of each blockstore and deployment, fixed parts included, from what is stored and asked for and from measured results,\nand names the cheapest that holds a wanted latency. The arithmetic of that one is shown; --explain shows another's, or all.",
		RunE: func(c *cobra.Command, _ []string) error { return runAdvise(c.Context(), c, f) },
	}
	fl := c.Flags()
	fl.StringVar(&f.stored, "stored", "", "content that is stored, once: 500GB")
	fl.Float64Var(&f.use.Files, "files", 0, "how many files that is (default: 250 kB each)")
	fl.StringVar(&f.added, "added", "0", "content added a month: 20GB")
	fl.StringVar(&f.served, "served", "0", "content served a month by the nodes, behind CloudFront's cache: 2TB")
	fl.StringVar(&f.peers, "peers", "0", "content a month that IPFS peers fetch from the nodes: 500GB")
	fl.StringVar(&f.free, "free", "1TB", "what CloudFront serves a month for nothing in your account: 1TB, if nothing else uses it")
	fl.Float64Var(&f.use.Exponent, "popularity", suite.ZipfExponent, "exponent of the files' Zipf popularity; 0: all alike")
	fl.Float64Var(&f.use.UnreadPart, "unread", 0.5, "share of what is stored that nobody reads for 90 days")
	fl.Float64Var(&f.use.Wants, "wants", 500, "wants for absent blocks a second and task: the background of the public network; 0 for a private one")
	fl.DurationVar(&f.latency, "latency", 0, "wanted at the gateway, for 99 of 100 requests: 200ms")
	fl.IntVar(&f.tasks, "tasks", 3, "tasks of the larger deployment, each with a copy of everything")
	fl.Float64Var(&f.cpu, "vcpu", 1, "of a task")
	fl.Float64Var(&f.gb, "memory", 4, "GB of a task")
	fl.BoolVar(&f.x86, "x86", false, "Fargate on x86 instead of ARM")
	fl.StringVar(&f.cache, "cache", "4GB", "read cache on the disk of a task, for packs")
	fl.StringVar(&f.metrics, "metrics", "", "learn stored, added, served and wants from a running node: a URL, or a file, with its Prometheus metrics; flags win")
	fl.StringVar(&f.results, "results", "", "measured results (default: benchmarks/results/reference of the checkout)")
	fl.StringVar(&f.explain, "explain", "", "show the arithmetic of the blockstores whose name holds this, or of all")
	return c
}

func runAdvise(ctx context.Context, c *cobra.Command, f adviseFlags) error {
	if f.results == "" {
		root, err := checkout()
		if err != nil {
			return err
		}
		f.results = filepath.Join(root, "benchmarks", "results", "reference")
	}
	res, err := record.Read(f.results)
	if err != nil {
		return err
	}
	if f.metrics != "" {
		text, err := readMetrics(ctx, f.metrics)
		if err != nil {
			return err
		}
		learned, err := advise.Learn(strings.NewReader(text), time.Now())
		if err != nil {
			return fmt.Errorf("--metrics %s: %w", f.metrics, err)
		}
		fmt.Println(learned.Said)
		take := func(flag string, to *float64, v float64) {
			if !c.Flags().Changed(flag) {
				*to = v
			}
		}
		take("stored", &f.use.StoredGB, learned.StoredGB)
		take("added", &f.use.AddedGB, learned.AddedGB)
		take("served", &f.use.ServedGB, learned.ServedGB)
		take("wants", &f.use.Wants, learned.Wants)
	}
	amount := func(flag, text string, to *float64) error {
		if f.metrics != "" && *to != 0 && !c.Flags().Changed(flag) {
			return nil // it was learned
		}
		gb, err := parseGB(text)
		if err != nil {
			return fmt.Errorf("--%s %q: %w", flag, text, err)
		}
		*to = gb
		return nil
	}
	var cache float64
	if err := errors.Join(amount("stored", f.stored, &f.use.StoredGB), amount("added", f.added, &f.use.AddedGB), amount("served", f.served, &f.use.ServedGB),
		amount("peers", f.peers, &f.use.PeersGB), amount("free", f.free, &f.use.FreeGB)); err != nil {
		return err
	}
	if err := amount("cache", f.cache, &cache); err != nil {
		return err
	}
	if f.use.Files == 0 {
		f.use.Files = max(1, f.use.StoredGB*bill.GB/250e3)
	}
	f.use.LatencyMS = f.latency.Seconds() * 1000
	if f.tasks < 1 || f.cpu <= 0 || f.gb <= 0 {
		return errors.New("--tasks, --vcpu, --memory: use amounts above 0")
	}
	var deployments []advise.Deployment
	for _, tasks := range []int{f.tasks, 1} {
		for _, nat := range []bool{false, true} {
			d := advise.Deployment{Tasks: tasks, CPU: f.cpu, GB: f.gb, X86: f.x86, NAT: nat, CacheGB: cache}
			d.Name = fmt.Sprintf("%d tasks", tasks)
			if tasks == 1 {
				d.Name = "1 task"
			}
			d.Name += map[bool]string{true: ", private with NAT", false: ", public addresses"}[nat]
			deployments = append(deployments, d)
		}
		if f.tasks == 1 {
			break
		}
	}
	bills, err := advise.Bills(res, f.use, deployments)
	if err != nil {
		return err
	}
	return show(bills, deployments[0].Name, f.explain)
}

// parseGB reads an amount of bytes in GB of 2³⁰. A number without a unit is refused: 500 may be meant as bytes, or as GB.
func parseGB(text string) (float64, error) {
	const use = "use a number with a unit, such as 500GB or 2TiB"
	n, err := humanize.ParseBytes(text)
	switch _, bare := strconv.ParseFloat(text, 64); {
	case err != nil:
		return 0, errors.New(use)
	case bare == nil && n != 0:
		return 0, errors.New("there is no unit: " + use)
	}
	return float64(n) / bill.GB, nil
}

func show(bills []advise.Bill, first, explain string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', tabwriter.AlignRight|tabwriter.DiscardEmptyColumns)
	w.Init(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "USD A MONTH\tBLOCKSTORE\tDEPLOYMENT\tGATEWAY, 99 OF 100\t")
	var best *advise.Bill
	for i, b := range bills {
		latency := "not measured"
		if !math.IsNaN(b.Latency) {
			latency = fmt.Sprintf("%.0f ms", b.Latency)
		}
		if b.Refused != "" {
			latency += "; does not do: " + b.Refused
		} else if best == nil && b.Deployment == first {
			best = &bills[i]
		}
		fmt.Fprintf(w, "%.2f\t%s\t%s\t%s\t\n", b.Total, b.Store, b.Deployment, latency)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if best == nil {
		fmt.Printf("\nNone does in %s: allow more latency, or change what is wanted.\n", first)
	} else {
		fmt.Printf("\nThe cheapest that does, in %s: %s, $%.2f a month.\n", first, best.Store, best.Total)
	}
	for i, b := range bills {
		if best == &bills[i] || explain != "" && (explain == "all" || strings.Contains(b.Store, explain)) {
			arithmetic(b)
		}
	}
	return nil
}

func arithmetic(b advise.Bill) {
	fmt.Printf("\n%s, %s\n", b.Store, b.Deployment)
	for _, l := range b.Lines {
		fmt.Printf("  %10.2f  %s: %s\n", l.USD, l.What, l.How)
	}
	fmt.Printf("  %10.2f  in all\n", b.Total)
}

// readMetrics reads a URL or a file.
func readMetrics(ctx context.Context, from string) (string, error) {
	if !strings.HasPrefix(from, "http://") && !strings.HasPrefix(from, "https://") {
		b, err := os.ReadFile(from)
		return string(b), err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("read metrics: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return "", fmt.Errorf("read metrics from %s: %w", from, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("read metrics from %s: %s", from, resp.Status)
	}
	return string(b), nil
}
