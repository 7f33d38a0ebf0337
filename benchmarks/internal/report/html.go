package report

import (
	"bytes"
	"fmt"
	"html/template"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
)

// plots are all plots of the report.
func (v view) plots() []plot {
	var all []plot
	for _, p := range []struct{ workload, metric, title string }{
		{"add-file", "dollars per TiB", "Dollars per TiB added"},
		{"cat-cold", "dollars per TiB", "Dollars per TiB served, cold"},
		{"add-file", "requests per TiB", "Requests per TiB added"},
		{"cat-cold", "requests per TiB", "Requests per TiB served, cold"},
		{"add-file", "throughput", "Adding a large file"},
		{"add-1mib", "throughput", "Adding in chunks of 1 MiB"},
		{"add-tree", "throughput", "Adding small files"},
		{"cat-cold", "throughput", "Reading it, cold"},
		{"cat-warm", "throughput", "Reading it once more"},
		{"bitswap", "throughput", "Serving a peer by bitswap"},
		{"range", "p50", "Video seeking: median"},
		{"range", "p99", "Video seeking: 99 of 100"},
		{"gateway", "p50", "Gateway: median"},
		{"gateway", "p99", "Gateway: 99 of 100"},
		{"blocks", "p50", "Random single block: median"},
		{"wants", "requests", "Requests for wants for absent blocks"},
		{"gateway", "cache hit rate", "Gateway: cache hit rate"},
		{"cat-warm", "cache hit rate", "Reading once more: cache hit rate"},
		{"range", "bytes moved per byte", "Video seeking: bytes moved per byte asked"},
		{"cat-cold", "memory", "Memory while reading"},
		{"add-file", "memory", "Memory while adding"},
		{"pin", "time", "Pinning what is there"},
		{"gc", "time", "Collecting garbage"},
		{"restart", "time", "Restart"},
		{"idle", "requests", "Requests while idle"},
	} {
		for _, level := range []string{record.Kubo, record.Datastore} {
			if made, ok := v.barPlot(p.workload, p.metric, p.title, level); ok {
				all = append(all, made)
			}
		}
	}
	var curves, scatter []line
	for _, s := range v.Stores {
		k := record.Key{Store: s.Name, Level: record.Kubo, Workload: "gateway"}
		c := v.curve(k)
		l := line{Label: s.Title}
		for clients := 1; clients <= 4096; clients *= 2 {
			if rate, ok := c[clients]; ok {
				l.Points = append(l.Points, point{float64(clients), rate})
			}
		}
		if len(l.Points) > 0 {
			curves = append(curves, l)
		}
		usd, has := v.stat(record.Key{Store: s.Name, Level: record.Kubo, Workload: "cat-cold"}, metricNamed("dollars per TiB"))
		p50, is := v.stat(k, metricNamed("p50"))
		if has && is && usd.Median > 0 && p50.Median > 0 {
			scatter = append(scatter, line{s.Title, []point{{usd.Median, p50.Median}}})
		}
	}
	if len(curves) > 0 {
		all = append(all, plot{"Gateway: how it saturates", "requests per second by concurrent clients, medians", axes("clients", "requests/s", curves)})
	}
	if len(scatter) > 0 {
		all = append(all, plot{"Cost against latency", "dollars per TiB served cold, and the median latency of the gateway: lower left is better", axes("$ per TiB served", "ms", scatter)})
	}
	return all
}

func (v view) barPlot(workload, name, title, level string) (plot, bool) {
	m := metricNamed(name)
	var rows []bar
	for _, s := range v.Stores {
		st, ok := v.stat(record.Key{Store: s.Name, Level: level, Workload: workload}, m)
		if !ok {
			continue
		}
		b := bar{Label: s.Title, Mid: st.Median, Low: st.Low, High: st.High, Accent: s.Program == "ipfs-aws"}
		if st.Doubt() != "" {
			b.Doubt = "undecided"
		}
		if c, ok := v.ceiling(s); ok && name == "throughput" {
			b.Limit = c.LimitBytes / 1e6
		}
		rows = append(rows, b)
	}
	return plot{title, levelTitle[level] + "; " + m.Formula, bars(m.Unit, rows)}, len(rows) > 0
}

// look is the style of the page and its plots: every colour is a variable, set once for light and once for dark.
const look = `
:root { color-scheme: light dark; --back: #ffffff; --ink: #1b1f24; --soft: #57606a; --rule: #d0d7de; --card: #f6f8fa; --bar: #8c959f; --accent: #0969da; --limit: #cf222e;
 --c0: #0969da; --c1: #bc4c00; --c2: #1a7f37; --c3: #8250df; --c4: #bf3989; --c5: #6e7781; --c6: #9a6700; --c7: #0e7490; --c8: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --ink: #e6edf3; --soft: #a8b3bf; --rule: #30363d; --card: #161b22; --bar: #768390; --accent: #58a6ff; --limit: #ff7b72;
 --c0: #58a6ff; --c1: #ffa657; --c2: #56d364; --c3: #bc8cff; --c4: #ff7bca; --c5: #9ea7b3; --c6: #e3b341; --c7: #4dd0e1; --c8: #ff7b72; } }
svg { display: block; width: 100%; height: auto; font-family: system-ui, sans-serif; }
.label { fill: var(--ink); } .value { fill: var(--ink); font-weight: 600; } .note { fill: var(--soft); }
.bar { fill: var(--bar); } .accent { fill: var(--accent); } .spread { stroke: var(--ink); fill: none; } .limit { stroke: var(--limit); stroke-width: 2; fill: none; } .grid { stroke: var(--rule); fill: none; }
.line { fill: none !important; stroke-width: 2; }
.c0 { fill: var(--c0); stroke: var(--c0); } .c1 { fill: var(--c1); stroke: var(--c1); } .c2 { fill: var(--c2); stroke: var(--c2); } .c3 { fill: var(--c3); stroke: var(--c3); } .c4 { fill: var(--c4); stroke: var(--c4); }
.c5 { fill: var(--c5); stroke: var(--c5); } .c6 { fill: var(--c6); stroke: var(--c6); } .c7 { fill: var(--c7); stroke: var(--c7); } .c8 { fill: var(--c8); stroke: var(--c8); }
`

var page = template.Must(template.New("report").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>What blockstores cost and deliver</title>
<style>{{.Look}}
body { margin: 0 auto; padding: 10px; max-width: 1200px; background: var(--back); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 0 0 4px; }
p, dl { margin: 0 0 8px; } .soft { color: var(--soft); font-size: 13px; }
dt { font-weight: 600; } dd { margin: 0 0 4px; color: var(--soft); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 12px; }
figure { margin: 0; padding: 0; } figcaption p { min-height: 0; }
section { margin-top: 22px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; } th, td { text-align: left; padding: 4px 8px; border-bottom: 1px solid var(--rule); vertical-align: top; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--back); }
th { color: var(--soft); font-weight: 600; }
</style>
</head>
<body>
<h1>What blockstores cost and deliver</h1>
<dl>{{range .Facts}}<dt>{{index . 0}}</dt><dd>{{index . 1}}</dd>{{end}}</dl>
<p class="soft">Blue: stores of this project. Whiskers: least and greatest sample. “?”: undecided, for the spread is too wide, or the samples too few.</p>
<div class="plots">{{range .Plots}}
<figure><figcaption><h2>{{.Title}}</h2><p class="soft">{{.Note}}</p></figcaption>{{.Drawing}}</figure>{{end}}
</div>
{{range .Tables}}<section><h2>{{.Title}}</h2>{{if .Note}}<p class="soft">{{.Note}}</p>{{end}}
<div class="wide"><table><thead><tr>{{range .Head}}<th>{{.}}</th>{{end}}</tr></thead><tbody>{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>{{end}}</tbody></table></div></section>
{{end}}</body>
</html>
`))

// Drawing is the plot as it stands in the page.
func (p plot) Drawing() template.HTML { return template.HTML(p.SVG) }

func (v view) html() ([]byte, error) {
	var b bytes.Buffer
	err := page.Execute(&b, map[string]any{"Look": template.CSS(look), "Facts": v.facts(), "Plots": v.plots(), "Tables": v.tables()})
	if err != nil {
		return nil, fmt.Errorf("fill in the page: %w", err)
	}
	return b.Bytes(), nil
}
