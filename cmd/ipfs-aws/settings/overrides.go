package settings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/ipfs/kubo/config"

	"github.com/ipfs-aws/ipfs-aws/internal/environ"
)

// Override is a value for one key of kubo's config.
type Override struct {
	// Path is the key, in kubo's own spelling.
	Path []string
	// Value is what JSON decodes to; nil takes the key out.
	Value any
	// From is the variable that says so.
	From string
	// Secret values are not shown.
	Secret bool
}

// Key is the path as `ipfs config` takes it.
func (o Override) Key() string { return strings.Join(o.Path, ".") }

// overrides reads the IPFS_CONFIG_ variables: many keys at once first, so that
// a variable of its own wins.
func (l *loader) overrides() []Override {
	var out []Override
	names := map[string]bool{}
	for _, name := range l.Names(ConfigPrefix) {
		names[strings.TrimSuffix(name, environ.FileSuffix)] = true
	}
	if names[ConfigJSON] {
		delete(names, ConfigJSON)
		v, from := l.Secret(ConfigJSON)
		if v != "" {
			at := place{typ: reflect.TypeFor[config.Config](), secret: from != ConfigJSON}
			out = append(out, l.object(from, at, v)...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		v, from := l.Secret(name)
		at, want := find(strings.Split(strings.TrimPrefix(name, ConfigPrefix), "_"))
		if want != "" {
			l.Bad(name, "", "%s", want)
			continue
		}
		if v == "" {
			continue
		}
		at.secret = at.secret || from != name
		out = append(out, l.override(from, at, v)...)
	}
	return out
}

// override reads one variable as what its key is.
func (l *loader) override(from string, at place, v string) []Override {
	if at.object() {
		return l.object(from, at, v)
	}
	var value any
	var want string
	// The text itself, and the text in quotes: who sets a string need not know JSON.
	quoted, err := json.Marshal(v)
	if err != nil {
		l.Bad(from, "", "is not text (%v)", err)
		return nil
	}
	attempts := []string{v, string(quoted)}
	switch {
	case at.typ.Kind() == reflect.String && !isQuoted(v):
		attempts = attempts[1:]
	case at.typ == reflect.TypeFor[[]string](), at.typ == reflect.TypeFor[config.Strings]():
		if !strings.HasPrefix(v, "[") {
			list, err := json.Marshal(strings.Split(v, ","))
			if err == nil {
				attempts = []string{string(list)}
			}
		}
	}
	for i, text := range attempts {
		var why string
		if value, why = at.read([]byte(text)); why == "" {
			return l.place(from, at, value)
		}
		if i == 0 || !json.Valid([]byte(v)) {
			want = why
		}
	}
	l.Bad(from, at.show(v), "%s", at.accepts(want))
	return nil
}

func isQuoted(v string) bool {
	return len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' && json.Valid([]byte(v))
}

// object reads a JSON object, whose keys are set one by one.
func (l *loader) object(from string, at place, v string) []Override {
	var m map[string]any
	d := json.NewDecoder(strings.NewReader(v))
	d.UseNumber()
	if err := d.Decode(&m); err != nil || d.More() || m == nil {
		why := "and is something else"
		if err != nil {
			why = "and is not (" + err.Error() + ")"
		}
		l.Bad(from, at.show(v), "must be a JSON object, such as {\"StorageMax\": \"500GB\"}, %s", why)
		return nil
	}
	return l.merge(from, at, m)
}

// merge takes an object apart into its leaves.
func (l *loader) merge(from string, at place, m map[string]any) []Override {
	var out []Override
	for _, key := range slices.Sorted(maps.Keys(m)) {
		next, want := at.into(key)
		if want != "" {
			l.Bad(from, "", "%s", want)
			continue
		}
		if sub, ok := m[key].(map[string]any); ok && next.object() {
			out = append(out, l.merge(from, next, sub)...)
			continue
		}
		raw, err := json.Marshal(m[key])
		if err != nil {
			l.Bad(from, "", "%s: %v", next.key(), err)
			continue
		}
		value, want := next.read(raw)
		if want != "" {
			l.Bad(from, "", "%s: %s", next.key(), next.accepts(want))
			continue
		}
		out = append(out, l.place(from, next, value)...)
	}
	return out
}

// refusedKeys are set in another way, or not at all.
var refusedKeys = map[string]string{
	"Identity":         "the identity of a node is made with its repo and stays",
	"Datastore.Spec":   "where blocks are kept is said with " + Blockstore + " and the settings of that blockstore",
	"Datastore.Type":   "kubo has not had it for long: use " + Blockstore,
	"Datastore.Path":   "kubo has not had it for long: use " + Blockstore,
	"Datastore.Params": "kubo has not had it for long: use " + Blockstore,
}

// place notes a value for a key, unless the key is refused.
func (l *loader) place(from string, at place, value any) []Override {
	for key, why := range refusedKeys {
		if at.key() == key || strings.HasPrefix(at.key(), key+".") {
			l.Bad(from, "", "cannot set %s: %s", at.key(), why)
			return nil
		}
	}
	return []Override{{Path: at.path, Value: value, From: from, Secret: at.secret}}
}

// place is a key of kubo's config, with the type that it has there.
type place struct {
	path   []string
	typ    reflect.Type // an interface where everything goes
	secret bool
}

func (p place) key() string { return strings.Join(p.path, ".") }

// show is what may be shown of a value. The whole config may hold secrets.
func (p place) show(v string) string {
	if p.secret || len(p.path) == 0 {
		return ""
	}
	return v
}

// upstream: config-types
var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// object reports whether the place is an object with keys that kubo knows.
func (p place) object() bool {
	return p.typ.Kind() == reflect.Struct && !reflect.PointerTo(p.typ).Implements(unmarshaler)
}

// secretKeys are parts of kubo's config, or names in it, that hold secrets.
var secretKeys = regexp.MustCompile(`(?i)^(API\.Authorizations|Pinning\.RemoteServices|Identity)(\.|$)|(secret|token|password|privkey)`)

// into is the place of a key in an object or a map.
func (p place) into(key string) (place, string) {
	next := place{path: append(slices.Clone(p.path), key)}
	switch typ := p.typ; {
	case p.object():
		known := []string{}
		for _, f := range fields(typ) {
			if strings.EqualFold(f.name, key) {
				next.path[len(next.path)-1], next.typ = f.name, f.typ
			}
			known = append(known, f.name)
		}
		if next.typ == nil {
			want := fmt.Sprintf("kubo's config has no key %s", next.key())
			if meant, ok := environ.Nearest(key, known); ok {
				return next, want + "; did you mean " + strings.Join(append(slices.Clone(p.path), meant), ".") + "?"
			}
			if p.key() == "" {
				return next, want + ": use one of " + strings.Join(known, ", ")
			}
			return next, want + ": " + p.key() + " has " + strings.Join(known, ", ")
		}
	case typ.Kind() == reflect.Map:
		next.typ = typ.Elem()
	case typ.Kind() == reflect.Interface, typ.Kind() == reflect.Struct:
		next.typ = reflect.TypeFor[any]()
	default:
		return next, fmt.Sprintf("kubo's config has no key %s: %s is a single value", next.key(), p.key())
	}
	for next.typ.Kind() == reflect.Pointer {
		next.typ = next.typ.Elem()
	}
	next.secret = p.secret || secretKeys.MatchString(next.key())
	return next, ""
}

// find is the place of a key whose parts are given in any case.
func find(parts []string) (place, string) {
	at := place{typ: reflect.TypeFor[config.Config]()}
	for _, part := range parts {
		next, want := at.into(part)
		if want != "" {
			return at, want
		}
		at = next
	}
	return at, ""
}

type field struct {
	name string
	typ  reflect.Type
}

// fields are the keys of a struct as JSON has them.
func fields(typ reflect.Type) []field {
	var out []field
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			out = append(out, fields(f.Type)...)
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			name = f.Name
		}
		out = append(out, field{name, f.Type})
	}
	return out
}

// read decodes JSON as the type of the place, and returns it as JSON has it;
// nil takes the key out.
func (p place) read(raw []byte) (value any, want string) {
	typed := reflect.New(p.typ)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(typed.Interface()); err != nil {
		return nil, err.Error()
	}
	if d.More() {
		return nil, "more than one value"
	}
	d = json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return nil, err.Error()
	}
	return value, ""
}

// accepts says what a place takes, for who has given something else.
func (p place) accepts(why string) string {
	switch p.typ {
	case reflect.TypeFor[config.Flag]():
		return "must be true, false or null (kubo's default)"
	case reflect.TypeFor[config.OptionalDuration](), reflect.TypeFor[config.Duration]():
		return `must be a duration such as "90s" or "5m"`
	case reflect.TypeFor[config.OptionalInteger]():
		return "must be a whole number or null (kubo's default)"
	case reflect.TypeFor[config.Priority]():
		return "must be a whole number above zero, false (off) or null (kubo's default)"
	case reflect.TypeFor[[]string](), reflect.TypeFor[config.Strings]():
		return `must be a list: values separated by commas, or ["a", "b"]`
	}
	switch p.typ.Kind() {
	case reflect.Bool:
		return "must be true or false"
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Uint, reflect.Uint64:
		return "must be a whole number"
	case reflect.Float64:
		return "must be a number"
	}
	return fmt.Sprintf("must be JSON for what kubo calls %s (%s)", p.typ, why)
}
