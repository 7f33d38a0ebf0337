package report

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
	"github.com/ipfs-aws/ipfs-aws/internal/prices"
)

// table is what both forms of the report show: rows of cells under a title.
type table struct {
	Title, Note string
	Head        []string
	Rows        [][]string
}

// columns of the table of a workload: those that any store has a figure for are shown.
var columns = []string{"throughput", "time", "p50", "p90", "p99", "requests", "requests per TiB", "dollars per TiB", "dollars a month", "bytes moved per byte", "cache hit rate", "memory", "processor"}

var levelTitle = map[string]string{record.Kubo: "inside real kubo", record.Datastore: "the datastore alone"}

// workloadTable is everything about one workload at one level.
func (v view) workloadTable(w record.Workload, level string) (table, bool) {
	t := table{Title: w.Title + ", " + levelTitle[level], Note: w.What + ".", Head: []string{"store"}}
	key := func(s record.Store) record.Key { return record.Key{Store: s.Name, Level: level, Workload: w.Name} }
	stores := slices.DeleteFunc(slices.Clone(v.Stores), func(s record.Store) bool { return len(v.Of(key(s))) == 0 })
	if len(stores) == 0 {
		return t, false
	}
	var shown []metric
	for _, name := range columns {
		m := metricNamed(name)
		if slices.ContainsFunc(stores, func(s record.Store) bool { _, ok := v.stat(key(s), m); return ok }) {
			shown = append(shown, m)
			head := m.Name
			if m.Unit != "" {
				head += ", " + m.Unit
			}
			t.Head = append(t.Head, head)
		}
	}
	limited := w.Kind != "other"
	if limited {
		t.Head = append(t.Head, "of the limit")
	}
	t.Head = append(t.Head, "time against baseline", "decides?")
	for _, s := range stores {
		row := []string{s.Title}
		for _, m := range shown {
			f, ok := v.figure(key(s), m)
			if !ok {
				row = append(row, "–")
				continue
			}
			row = append(row, f.text())
		}
		if limited {
			row = append(row, v.share(s, key(s)))
		}
		f, _ := v.figure(key(s), metricNamed("time"))
		versus := f.versus()
		if versus != "" {
			versus += " of " + s.Baseline
		}
		doubt := f.Stat.Doubt()
		if doubt == "" {
			doubt = "yes"
		}
		t.Rows = append(t.Rows, append(row, versus, doubt))
	}
	return t, true
}

// share is the throughput as a part of the model's limit.
func (v view) share(s record.Store, k record.Key) string {
	c, ok := v.ceiling(s)
	f, has := v.figure(k, metricNamed("throughput"))
	if !ok || !has {
		return "–"
	}
	return number(100*f.Stat.Median*1e6/c.LimitBytes) + " %"
}

func (v view) gatewayTable(level string) (table, bool) {
	t := table{Title: "gateway, requests per second by clients, " + levelTitle[level], Note: "Medians. It saturates where the row ends, or stops to rise.", Head: []string{"store"}}
	var all []int
	curves := map[string]map[int]float64{}
	for _, s := range v.Stores {
		curves[s.Name] = v.curve(record.Key{Store: s.Name, Level: level, Workload: "gateway"})
		for c := range curves[s.Name] {
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	slices.Sort(all)
	for _, c := range all {
		t.Head = append(t.Head, fmt.Sprint(c))
	}
	for _, s := range v.Stores {
		if len(curves[s.Name]) == 0 {
			continue
		}
		row := []string{s.Title}
		for _, c := range all {
			if x, ok := curves[s.Name][c]; ok {
				row = append(row, number(x))
			} else {
				row = append(row, "–")
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t, len(t.Rows) > 0
}

// curve is requests per second by clients, medians over the rounds.
func (v view) curve(k record.Key) map[int]float64 {
	by := map[int][]float64{}
	for _, s := range v.Of(k) {
		for _, step := range s.Steps {
			by[step.Clients] = append(by[step.Clients], float64(step.Ops)/step.Seconds)
		}
	}
	out := map[int]float64{}
	for c, rates := range by {
		out[c] = record.Summarize(rates).Median
	}
	return out
}

func (v view) ceilingTable() table {
	t := table{
		Title: "What the models let through", Head: []string{"model", "limit, MB/s", "how", "read here, MB/s", "written here, MB/s", "small reads here, per s"},
		Note: "Limit: by formula. Here: what plain clients got through the model on this machine, at this dilation, without a store. Where that is under the limit, the machine is the bottleneck of the fastest stores: raise --dilation.",
	}
	for _, c := range v.Ceilings {
		t.Rows = append(t.Rows, []string{c.Model, number(c.LimitBytes / 1e6), c.Formula, number(c.ReadBytes / 1e6), number(c.WriteBytes / 1e6), number(c.SmallPerSecond)})
	}
	return t
}

func (v view) storeTable() table {
	t := table{Title: "Stores", Head: []string{"store", "what it is", "behind it", "runs in"}}
	for _, s := range v.Stores {
		t.Rows = append(t.Rows, []string{s.Title, s.What, s.Model, s.Program})
	}
	return t
}

func formulaTable() table {
	t := table{Title: "Formulas", Head: []string{"figure", "from the fields of a sample"}}
	for _, m := range metrics {
		t.Rows = append(t.Rows, []string{m.Name, m.Formula})
	}
	t.Rows = append(t.Rows,
		[]string{"of the limit", "median throughput ÷ limit of the model"},
		[]string{"a figure", "median (least–greatest) of the samples"},
		[]string{"decides?", fmt.Sprintf("with %d samples or more, and (upper − lower quartile) ÷ median at most %g", record.Least, record.TooWide)},
		[]string{"against baseline", fmt.Sprintf("median ÷ median of the baseline, if the exact rank test of Mann and Whitney gives a chance under %g that they do not differ", record.Significant)})
	return t
}

func sourceTable() table {
	t := table{Title: "Where the models' figures are from", Head: []string{"model", "figure", "source", "read"}}
	for _, c := range s3model.Classes {
		for _, s := range c.Sources {
			t.Rows = append(t.Rows, []string{c.Title, s.What, s.Where, s.Read})
		}
	}
	t.Rows = append(t.Rows, []string{"EFS", "latencies, limits, metering: docs/efs-model.md", "docs.aws.amazon.com/efs/latest/ug/performance.html", "2026-11"},
		[]string{"EFS", fmt.Sprintf("$%g and $%g per GB-month (One Zone, Regional), $%g and $%g per GB read and written (Elastic), $%g per MiB/s-month (Provisioned)",
			prices.Of("efs.onezone.gb-month"), prices.Of("efs.standard.gb-month"), prices.Of("efs.elastic.read.gb"), prices.Of("efs.elastic.write.gb"), prices.Of("efs.provisioned.mibps-month")), "aws.amazon.com/efs/pricing, us-east-1", "2026-11"})
	return t
}

// summary is the first thing that a reader needs: a row a store, at the level people use.
func (v view) summary() table {
	t := table{
		Title: "In short", Note: "Medians, inside real kubo. Dollars are for requests and metered bytes; what is stored, and machines, come on top (`advise` adds them up).",
		Head: []string{"store", "add: $ per TiB", "add: MB/s", "read, cold: $ per TiB", "read, cold: MB/s", "read, warm: MB/s", "2,000 small files a minute: files/s", "gateway p50, ms", "wants for absent blocks: $ a month"},
	}
	t.Head[6] = "small files added per s"
	for _, s := range v.Stores {
		key := func(w string) record.Key { return record.Key{Store: s.Name, Level: record.Kubo, Workload: w} }
		cell := func(w, m string) string {
			f, ok := v.figure(key(w), metricNamed(m))
			if !ok {
				return "–"
			}
			return number(f.Stat.Median)
		}
		files := "–"
		if st, ok := v.stat(key("add-tree"), metricNamed("time")); ok {
			files = number(float64(v.Settings.Sizes.TreeFiles) / st.Median)
		}
		row := []string{s.Title, cell("add-file", "dollars per TiB"), cell("add-file", "throughput"), cell("cat-cold", "dollars per TiB"), cell("cat-cold", "throughput"),
			cell("cat-warm", "throughput"), files, cell("gateway", "p50"), cell("wants", "dollars a month")}
		if slices.ContainsFunc(row[1:], func(c string) bool { return c != "–" }) {
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

// tables are all tables of the report, in order.
func (v view) tables() []table {
	var all []table
	if s := v.summary(); len(s.Rows) > 0 {
		all = append(all, s)
	}
	for _, level := range []string{record.Kubo, record.Datastore} {
		for _, w := range v.Workloads {
			if t, ok := v.workloadTable(w, level); ok {
				all = append(all, t)
			}
			if w.Name == "gateway" {
				if t, ok := v.gatewayTable(level); ok {
					all = append(all, t)
				}
			}
		}
	}
	return append(all, v.ceilingTable(), v.storeTable(), formulaTable(), sourceTable())
}

// facts are what a reader must know of the run.
func (v view) facts() [][2]string {
	set, m := v.Settings, v.Machine
	state := "complete"
	if v.Finished == nil {
		state = "NOT COMPLETE: " + v.Stopped
	}
	agreement := fmt.Sprintf("%d of %d comparisons equal", v.Agreed, v.Agreed+len(v.Mismatch))
	f := [][2]string{
		{"run", fmt.Sprintf("%s, profile %s, scale %g, %d rounds, %d samples; %s", v.Started.Format("2006-01-02 15:04 MST"), set.Profile, set.Scale, set.Samples, len(v.Samples), state)},
		{"machine", fmt.Sprintf("%s, %d cores, %g GiB, %s/%s, load when it began %s", m.CPU, m.Cores, m.MemoryGB, m.OS, m.Arch, m.Load)},
		{"software", versions(v.Versions)},
		{"time", fmt.Sprintf("models ran %g times slower than real, results are divided by that: the processor and the disk of this machine count 1 ÷ %g", set.Dilation, set.Dilation)},
		{"sizes", fmt.Sprintf("file %d MiB, %d small files, gateway %d files and %d requests a step, %d ranges, %d blocks, %g wants/s for %g s, %d dead blocks, idle %g s", set.Sizes.FileBytes>>20,
			set.Sizes.TreeFiles, set.Sizes.GatewayFiles, set.Sizes.GatewayRequests, set.Sizes.Ranges, set.Sizes.Blocks, set.Sizes.WantsPerSecond, set.Sizes.WantsSeconds, set.Sizes.GarbageBlocks, set.Sizes.IdleSeconds)},
		{"counting", "requests are counted at the server; the stores' own counters: " + agreement},
	}
	if set.Parallel > 1 {
		f = append(f, [2]string{"beware", fmt.Sprintf("%d stores ran at the same time: times mean nothing, counts do", set.Parallel)})
	}
	if set.Bucket != "" || set.EFSPath != "" {
		f = append(f, [2]string{"real services", fmt.Sprintf("bucket %s, EFS %s; $%.4f of $%.2f spent", set.Bucket, set.EFSPath, v.SpentUSD, set.MaxUSD)})
	}
	for _, s := range v.Skipped {
		f = append(f, [2]string{"skipped", s.Store + ": " + s.Why})
	}
	return f
}

func versions(all []record.Version) string {
	var s []string
	for _, v := range all {
		s = append(s, v.Name+" "+v.Version)
	}
	return strings.Join(s, ", ")
}

func (v view) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# What blockstores cost and deliver\n\n")
	for _, f := range v.facts() {
		fmt.Fprintf(&b, "- **%s**: %s\n", f[0], f[1])
	}
	for _, t := range v.tables() {
		fmt.Fprintf(&b, "\n## %s\n\n", t.Title)
		if t.Note != "" {
			fmt.Fprintf(&b, "%s\n\n", t.Note)
		}
		b.WriteString(t.markdown())
	}
	return b.Bytes()
}

func (t table) markdown() string {
	var b strings.Builder
	line := func(cells []string) {
		for i := range cells {
			b.WriteString("| " + strings.ReplaceAll(cells[i], "|", "\\|") + " ")
		}
		b.WriteString("|\n")
	}
	line(t.Head)
	b.WriteString(strings.Repeat("|---", len(t.Head)) + "|\n")
	for _, r := range t.Rows {
		line(r)
	}
	return b.String()
}
