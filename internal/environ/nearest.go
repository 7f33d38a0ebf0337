package environ

import "strings"

// Nearest returns the known name that a name was probably meant to be: the one
// with the fewest letters added, left out or replaced, if those are no more than
// one in four, or one. Upper and lower case are the same.
func Nearest(name string, known []string) (string, bool) {
	best, distance := "", max(1, len(name)/4)+1
	for _, k := range known {
		if d := edits(strings.ToUpper(name), strings.ToUpper(k)); d < distance {
			best, distance = k, d
		}
	}
	return best, best != ""
}

// edits is the Levenshtein distance between two names.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
