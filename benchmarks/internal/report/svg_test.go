package report

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

var text = regexp.MustCompile(`<text x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>`)

// Where both axes begin at a round number, their first labels meet in the corner.
func TestLabelsInTheCornerAreApart(t *testing.T) {
	svg := axes("x", "y", []line{{"l", []point{{0.1, 1}, {1000, 1000}}}})
	at := map[string][2]float64{}
	for _, m := range text.FindAllStringSubmatch(svg, -1) {
		x, err := strconv.ParseFloat(m[1], 64)
		require.NoError(t, err)
		y, err := strconv.ParseFloat(m[2], 64)
		require.NoError(t, err)
		at[m[3]] = [2]float64{x, y}
	}
	require.Contains(t, at, "0.10")
	require.Contains(t, at, "1.00")
	require.GreaterOrEqual(t, at["0.10"][1]-at["1.00"][1], float64(fontSize+2), "a line of text is %d units high", fontSize)
}
