package environ

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FileSuffix, appended to the name of a setting, makes it the path of a file
// that holds the value.
const FileSuffix = "_FILE"

// Reader reads settings and collects problems.
type Reader struct {
	env      map[string]string
	problems Problems
}

// New returns a reader of an environment, as [os.Environ] gives it. A variable
// that is set but empty counts as not set.
func New(environ []string) *Reader {
	r := &Reader{env: make(map[string]string, len(environ))}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && value != "" {
			r.env[name] = value
		}
	}
	return r
}

// Value is the value of a variable, or "".
func (r *Reader) Value(name string) string { return r.env[name] }

// Names lists the variables that begin with a prefix, sorted.
func (r *Reader) Names(prefix string) []string {
	var names []string
	for name := range r.env {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Bad notes a problem. An empty value is not printed.
func (r *Reader) Bad(name, value, format string, args ...any) {
	r.problems = append(r.problems, Problem{Name: name, Value: value, Want: fmt.Sprintf(format, args...)})
}

// Problems returns how many there are so far.
func (r *Reader) Problems() int { return len(r.problems) }

// Err is all problems as a [Problems], or nil.
func (r *Reader) Err() error {
	if len(r.problems) == 0 {
		return nil
	}
	return r.problems
}

// Secret returns the value of a setting that may be given in a file, and the
// name of the variable that it came from, for messages.
func (r *Reader) Secret(name string) (value, from string) {
	file := name + FileSuffix
	path := r.env[file]
	switch {
	case path == "":
		return r.env[name], name
	case r.env[name] != "":
		r.Bad(file, path, "is set together with %s: set one of the two", name)
		return "", name
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		r.Bad(file, path, "must name a readable file that holds the value (%v)", err)
		return "", file
	}
	value = strings.TrimSpace(string(raw))
	if value == "" {
		r.Bad(file, path, "names an empty file; it must hold the value")
	}
	return value, file
}

// Given reports whether a secret is set in either way.
func (r *Reader) Given(name string) bool { return r.env[name] != "" || r.env[name+FileSuffix] != "" }

// Number reads a whole number that passes a check.
func (r *Reader) Number(name string, def int64, is Check) int64 {
	v, ok := r.env[name]
	if !ok {
		return def
	}
	if want := is(v); want != "" {
		r.Bad(name, v, "%s", want)
		return def
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		r.Bad(name, v, "must be a whole number")
	}
	return n
}

// Duration reads a duration above zero.
func (r *Reader) Duration(name string, def time.Duration) time.Duration {
	v, ok := r.env[name]
	if !ok {
		return def
	}
	if want := IsPositiveDuration(v); want != "" {
		r.Bad(name, v, "%s", want)
		return def
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		r.Bad(name, v, "must be a duration")
	}
	return d
}

// Choice reads one of several words, in upper or lower case.
func (r *Reader) Choice(name, def string, values []string) string {
	v, ok := r.env[name]
	if !ok {
		return def
	}
	v = strings.ToLower(v)
	if want := IsOneOf(values...)(v); want != "" {
		r.Bad(name, v, "%s", want)
		return def
	}
	return v
}

// HostPort reads an address to listen on or to call.
func (r *Reader) HostPort(name string) string {
	v := r.env[name]
	if v == "" {
		return ""
	}
	if want := IsHostPort(v); want != "" {
		r.Bad(name, v, "%s", want)
	}
	return v
}

// Take removes variables that hold secrets from the process's environment, so
// that no child process and no other code sees them.
func Take(names ...string) error {
	for _, name := range names {
		if err := os.Unsetenv(name); err != nil {
			return fmt.Errorf("remove %s from the environment: %w", name, err)
		}
	}
	return nil
}
