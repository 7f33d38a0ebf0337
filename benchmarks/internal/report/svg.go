package report

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Plots are 340 units wide, the width of a phone less its margins, so that text of 12 units is 12 pixels there and larger elsewhere.
const (
	plotWidth = 340
	fontSize  = 12
	rowHeight = 34
)

// bar is one line of a bar plot: a median between its least and greatest value.
type bar struct {
	Label     string
	Mid       float64
	Low, High float64
	Doubt     string
	Accent    bool
	Limit     float64 // 0: none
}

// plot is a figure with its caption.
type plot struct {
	Title, Note, SVG string
}

// bars draws horizontal bars, on a logarithmic axis if they differ by more than 30 times. Each is labelled above itself, so that nothing is
// cut off on a phone.
func bars(unit string, rows []bar) string {
	most, least := 0.0, math.Inf(1)
	for _, r := range rows {
		most = max(most, r.High, r.Limit)
		for _, x := range []float64{r.Low, r.Limit} {
			if x > 0 {
				least = min(least, x)
			}
		}
	}
	logarithmic := most > 30*least
	const left, right = 2, plotWidth - 10
	at := func(x float64) float64 {
		switch {
		case x <= 0 || most == 0:
			return left
		case logarithmic:
			from := math.Floor(math.Log10(least)) - 0.3
			return left + (right-left)*(math.Log10(x)-from)/(math.Log10(most)-from)
		}
		return left + (right-left)*x/most
	}
	height := len(rows)*rowHeight + 20
	var b strings.Builder
	open(&b, height)
	for i, r := range rows {
		y := i * rowHeight
		class := "bar"
		if r.Accent {
			class = "bar accent"
		}
		value := short(r.Mid) + " " + unit
		if r.Doubt != "" {
			value += " ?"
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" class="label">%s</text>`, left, y+13, html.EscapeString(r.Label))
		fmt.Fprintf(&b, `<text x="%d" y="%d" class="value" text-anchor="end">%s</text>`, right+8, y+13, html.EscapeString(strings.TrimSpace(value)))
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="9" class="%s"/>`, left, y+18, max(at(r.Mid)-left, 1), class)
		if r.High > r.Low {
			fmt.Fprintf(&b, `<path d="M%.1f %d H%.1f M%.1f %d v6 M%.1f %d v6" class="spread"/>`, at(r.Low), y+22, at(r.High), at(r.Low), y+19, at(r.High), y+19)
		}
		if r.Limit > 0 {
			fmt.Fprintf(&b, `<path d="M%.1f %d v15" class="limit"/>`, at(r.Limit), y+15)
		}
	}
	scale := "linear from 0"
	if logarithmic {
		scale = "logarithmic"
	}
	if slices.ContainsFunc(rows, func(r bar) bool { return r.Limit > 0 }) {
		scale += "; upright: limit of the model"
	}
	if slices.ContainsFunc(rows, func(r bar) bool { return r.Doubt != "" }) {
		scale += "; ?: undecided"
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" class="note">%s</text></svg>`, left, height-5, scale)
	return b.String()
}

func open(b *strings.Builder, height int) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" font-size="%d">`, plotWidth, height, fontSize)
}

// point is a labelled point, and line a row of them.
type point struct{ X, Y float64 }

type line struct {
	Label  string
	Points []point
}

// axes draws lines, or points where a line has one, over two logarithmic axes, with a legend beneath.
func axes(xTitle, yTitle string, lines []line) string {
	const left, right, top, bottom = 46, plotWidth - 8, 22, 230
	xMin, xMax, yMin, yMax := math.Inf(1), 0.0, math.Inf(1), 0.0
	for _, l := range lines {
		for _, p := range l.Points {
			xMin, xMax, yMin, yMax = min(xMin, p.X), max(xMax, p.X), min(yMin, p.Y), max(yMax, p.Y)
		}
	}
	span := func(lo, hi float64) (float64, float64) {
		return math.Floor(math.Log10(lo)*2) / 2, math.Ceil(math.Log10(hi)*2+0.01) / 2
	}
	x0, x1 := span(xMin, xMax)
	y0, y1 := span(yMin, yMax)
	px := func(x float64) float64 { return left + (right-left)*(math.Log10(x)-x0)/(x1-x0) }
	py := func(y float64) float64 { return bottom - (bottom-top)*(math.Log10(y)-y0)/(y1-y0) }
	height := bottom + 48 + 18*len(lines)
	var b strings.Builder
	open(&b, height)
	for _, t := range ticks(x0, x1, 4) {
		fmt.Fprintf(&b, `<path d="M%.1f %d V%d" class="grid"/><text x="%.1f" y="%d" class="note" text-anchor="middle">%s</text>`, px(t), top, bottom, min(px(t), right-10), bottom+19, short(t)) // clear of the lowest label of the other axis
	}
	for _, t := range ticks(y0, y1, 5) {
		fmt.Fprintf(&b, `<path d="M%d %.1f H%d" class="grid"/><text x="%d" y="%.1f" class="note" text-anchor="end">%s</text>`, left, py(t), right, left-4, py(t)+4, short(t))
	}
	fmt.Fprintf(&b, `<text x="2" y="12" class="note">%s</text><text x="%d" y="%d" class="note" text-anchor="end">%s</text>`, html.EscapeString(yTitle), right, bottom+36, html.EscapeString(xTitle))
	for i, l := range lines {
		class := fmt.Sprintf("c%d", i%9)
		var d []string
		for j, p := range l.Points {
			d = append(d, fmt.Sprintf("%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[j == 0], px(p.X), py(p.Y)))
			b.WriteString(mark(i, px(p.X), py(p.Y), class))
		}
		if len(d) > 1 {
			fmt.Fprintf(&b, `<path d="%s" class="line %s"/>`, strings.Join(d, " "), class)
		}
		y := bottom + 48 + 18*i
		b.WriteString(mark(i, 10, float64(y)+5, class))
		fmt.Fprintf(&b, `<text x="22" y="%d" class="label">%s</text>`, y+9, html.EscapeString(l.Label))
	}
	b.WriteString("</svg>")
	return b.String()
}

// mark is a shape for each line, so that they are told apart without colour, too.
func mark(i int, x, y float64, class string) string {
	switch i % 3 {
	case 0:
		return fmt.Sprintf(`<circle cx="%.1f" cy="%.1f" r="4" class="%s"/>`, x, y, class)
	case 1:
		return fmt.Sprintf(`<rect x="%.1f" y="%.1f" width="8" height="8" class="%s"/>`, x-4, y-4, class)
	}
	return fmt.Sprintf(`<path d="M%.1f %.1f l5 9 h-10 z" class="%s"/>`, x, y-5, class)
}

// ticks are round numbers in a range of powers of ten.
func ticks(from, to float64, most int) []float64 {
	var all []float64
	for e := math.Floor(from); e <= to; e++ {
		for _, m := range []float64{1, 3} {
			if t := math.Log10(m) + e; t >= from-1e-9 && t <= to+1e-9 {
				all = append(all, m*math.Pow(10, e))
			}
		}
	}
	for len(all) > most {
		var half []float64
		for i := 0; i < len(all); i += 2 {
			half = append(half, all[i])
		}
		all = half
	}
	return all
}
