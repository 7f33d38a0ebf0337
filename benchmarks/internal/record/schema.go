package record

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// JSONSchema describes results.json, made from the types and what is said beside each field.
func JSONSchema() ([]byte, error) {
	defs := map[string]any{}
	root, err := describe(reflect.TypeFor[Results](), defs)
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "results.json of the ipfs-aws benchmarks, version 1",
		"$ref":    root["$ref"], "$defs": defs,
	}, "", "  ")
	return append(b, '\n'), err
}

func describe(t reflect.Type, defs map[string]any) (map[string]any, error) {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}, nil
	case t.Kind() == reflect.Pointer:
		return describe(t.Elem(), defs)
	}
	switch t.Kind() {
	case reflect.String:
		return map[string]any{"type": "string"}, nil
	case reflect.Bool:
		return map[string]any{"type": "boolean"}, nil
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}, nil
	case reflect.Float64:
		return map[string]any{"type": "number"}, nil
	case reflect.Slice:
		items, err := describe(t.Elem(), defs)
		return map[string]any{"type": []string{"array", "null"}, "items": items}, err
	case reflect.Map:
		values, err := describe(t.Elem(), defs)
		return map[string]any{"type": []string{"object", "null"}, "additionalProperties": values}, err
	case reflect.Struct:
	default:
		return nil, fmt.Errorf("schema: no JSON for %s", t)
	}
	ref := map[string]any{"$ref": "#/$defs/" + t.Name()}
	if _, done := defs[t.Name()]; done {
		return ref, nil
	}
	properties, required := map[string]any{}, []string{}
	defs[t.Name()] = nil // it may refer to itself
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		said := f.Tag.Get("doc")
		if name == "" || said == "" {
			return nil, fmt.Errorf("schema: %s.%s has no name or no description", t.Name(), f.Name)
		}
		p, err := describe(f.Type, defs)
		if err != nil {
			return nil, err
		}
		p["description"] = said
		properties[name] = p
		if !strings.Contains(rest, "omitempty") {
			required = append(required, name)
		}
	}
	defs[t.Name()] = map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	return ref, nil
}
