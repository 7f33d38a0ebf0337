package report

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"slices"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
)

// Marks around what is made, in the project's README.
const (
	begin = "<!-- begin: made from benchmarks/results/reference by `make bench-readme` -->"
	end   = "<!-- end: made from benchmarks/results/reference -->"
)

// readmeStores are those that the README compares; its picture has one more.
var readmeStores = []string{"flatfs-efs", "efs-onezone-elastic", "go-ds-s3", "s3-packs"}

// ReadmeText is the one table that the project's README carries, with its picture.
func ReadmeText(r *record.Results) string {
	v := view{r}
	head := []string{"Inside real kubo", "stock flatfs on EFS", "`efs`", "go-ds-s3 0.11", "`s3` packs"}
	rows := []struct {
		title, workload, metric, unit string
	}{
		{"add: requests and metering, per TiB", "add-file", "dollars per TiB", "$"},
		{"read cold: the same, per TiB", "cat-cold", "dollars per TiB", "$"},
		{"add a large file", "add-file", "throughput", " MB/s"},
		{"add %d small files", "add-tree", "time", " s"},
		{"read a large file, cold", "cat-cold", "throughput", " MB/s"},
		{"gateway, median latency", "gateway", "p50", " ms"},
		{"500 wants a second for absent blocks, per month", "wants", "dollars a month", "$"},
	}
	t := table{Head: head}
	for _, row := range rows {
		cells := []string{row.title}
		if strings.Contains(row.title, "%d") {
			cells[0] = fmt.Sprintf(row.title, r.Settings.Sizes.TreeFiles)
		}
		for _, s := range readmeStores {
			f, ok := v.figure(record.Key{Store: s, Level: record.Kubo, Workload: row.workload}, metricNamed(row.metric))
			cell := "–"
			if ok && row.unit == "$" {
				cell = "$" + number(f.Stat.Median)
			} else if ok {
				cell = number(f.Stat.Median) + row.unit
			}
			if ok && f.Stat.Doubt() != "" {
				cell += " (?)"
			}
			cells = append(cells, cell)
		}
		t.Rows = append(t.Rows, cells)
	}
	return fmt.Sprintf("%s\n%s\n![Dollars per TiB and throughput by blockstore](benchmarks/results/reference/%s)\n\nMedians of %d interleaved samples under models of S3 and EFS, on %d cores, %s; (?): the spread of the samples is too wide to decide. [All figures](benchmarks/results/reference/%s), [how they are made](benchmarks/README.md).\n%s",
		begin, t.markdown(), Picture, r.Settings.Samples, r.Machine.Cores, r.Started.Format("2006-01-02"), Markdown, end)
}

// Readme returns a README with the part between the marks made anew.
func Readme(old []byte, r *record.Results) ([]byte, error) {
	from := bytes.Index(old, []byte(begin))
	to := bytes.Index(old, []byte(end))
	if from < 0 || to < from {
		return nil, errors.New("README.md has no part that is made from the reference result: put its two marks back")
	}
	return append(append(append([]byte(nil), old[:from]...), ReadmeText(r)...), old[to+len(end):]...), nil
}

// picture is a few plots in one file: what it costs, and what it delivers. It shows the README's stores and Express One Zone, or all if
// none of them was measured.
func (v view) picture() string {
	few := *v.Results
	few.Stores = slices.DeleteFunc(slices.Clone(v.Stores), func(s record.Store) bool {
		return s.Name != "s3-packs-express" && !slices.Contains(readmeStores, s.Name)
	})
	if len(few.Stores) > 0 {
		v = view{&few}
	}
	var b strings.Builder
	y := 0
	var parts strings.Builder
	for _, p := range []struct{ workload, metric, title string }{
		{"add-file", "dollars per TiB", "Requests and metering per TiB added"},
		{"cat-cold", "dollars per TiB", "… per TiB served, cold"},
		{"add-tree", "time", fmt.Sprintf("Adding %d small files", v.Settings.Sizes.TreeFiles)},
		{"cat-cold", "throughput", "Reading a large file, cold"},
	} {
		made, ok := v.barPlot(p.workload, p.metric, p.title, record.Kubo)
		if !ok {
			continue
		}
		var height int
		if _, err := fmt.Sscanf(made.SVG[strings.Index(made.SVG, "viewBox"):], `viewBox="0 0 340 %d"`, &height); err != nil {
			continue // bars writes it
		}
		fmt.Fprintf(&parts, `<text x="2" y="%d" class="value" font-size="14">%s</text>`, y+16, html.EscapeString(p.title))
		fmt.Fprintf(&parts, `<g transform="translate(0 %d)">%s</g>`, y+22, strings.Replace(made.SVG, "<svg ", fmt.Sprintf(`<svg width="%d" height="%d" `, plotWidth, height), 1))
		y += height + 36
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="-6 0 %d %d" width="560" font-size="%d" role="img"><style>%s svg svg { width: auto; }</style><rect x="-6" width="%d" height="%d" fill="var(--back)"/>%s</svg>`,
		plotWidth+12, y, fontSize, look, plotWidth+12, y, parts.String())
	return b.String() + "\n"
}
