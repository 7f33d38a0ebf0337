package environ

import (
	"fmt"
	"strings"
)

// Problem is one setting that cannot be used.
type Problem struct {
	// Name is the setting as the user wrote it: a variable, or a flag.
	Name string
	// Value is what it holds; empty when it is missing or a secret.
	Value string
	// Want says what is wrong and what would be accepted.
	Want string
}

func (p Problem) Error() string {
	if p.Value == "" {
		return fmt.Sprintf("%s: %s", p.Name, p.Want)
	}
	return fmt.Sprintf("%s=%q: %s", p.Name, p.Value, p.Want)
}

// Problems are all that is wrong with an environment, one line each.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}
