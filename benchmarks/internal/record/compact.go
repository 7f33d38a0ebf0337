package record

import (
	"bytes"
	"regexp"
)

// numbers is an array of numbers as MarshalIndent writes it, one a line.
var numbers = regexp.MustCompile(`\[\s*-?[0-9][^\]\[{}"]*\]`)

// compact puts each array of numbers on one line: there are thousands of latencies.
func compact(indented []byte) []byte {
	return numbers.ReplaceAllFunc(indented, func(a []byte) []byte {
		fields := bytes.Fields(a)
		return bytes.Join(fields, nil)
	})
}
