// Package template reads a CloudFormation template and works out what its
// functions come to, as CloudFormation would with given parameters. It knows what
// the templates of this folder use; anything else is an error. It asks nobody and
// changes nothing.
package template

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Resource is one resource as it is written.
type Resource struct {
	Type, Condition                     string
	Properties                          map[string]any
	DependsOn                           any
	DeletionPolicy, UpdateReplacePolicy string
}

// Parameter is one parameter as it is written.
type Parameter struct {
	Type, Description string
	Default           any
	AllowedPattern    string
	AllowedValues     []any
	MinValue          *float64
	MaxValue          *float64
}

// Template is a template as it is written.
type Template struct {
	Description string
	Metadata    map[string]any
	Parameters  map[string]Parameter
	Mappings    map[string]map[string]map[string]any
	Conditions  map[string]any
	Rules       map[string]struct {
		Assertions []struct {
			Assert            any
			AssertDescription string
		}
	}
	Resources map[string]Resource
	Outputs   map[string]struct {
		Value     any
		Condition string
	}
}

// Read reads a template file.
func Read(path string) (*Template, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read a template: %w", err)
	}
	t := &Template{}
	if err := json.Unmarshal(text, t); err != nil {
		return nil, fmt.Errorf("read the template %s: %w", path, err)
	}
	return t, nil
}

// OfType lists the names of resources of a type, sorted, whether they would be made or not.
func (t *Template) OfType(kind string) []string {
	var ids []string
	for id, r := range t.Resources {
		if r.Type == kind {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Launch is a template with values: what a stack would be.
type Launch struct {
	*Template
	// Values are of parameters, and of AWS::Region and its like.
	Values map[string]string
	// Physical gives a resource's ID ("" as attribute) or attribute; nil makes
	// them Name and Name.Attribute.
	Physical func(id, attribute string) string
}

// absent stands for AWS::NoValue.
type absent struct{}

// Resource is a resource with everything worked out.
func (l Launch) Resource(id string) (map[string]any, error) {
	r, ok := l.Resources[id]
	if !ok {
		return nil, fmt.Errorf("the template has no resource %s", id)
	}
	v, err := l.Resolve(r.Properties)
	if err != nil {
		return nil, fmt.Errorf("resource %s: %w", id, err)
	}
	return v.(map[string]any), nil
}

// Exists tells whether a resource would be made.
func (l Launch) Exists(id string) (bool, error) {
	if c := l.Resources[id].Condition; c != "" {
		return l.holds(map[string]any{"Condition": c})
	}
	return true, nil
}

// Made lists the names of resources of a type that would be made, sorted.
func (l Launch) Made(kind string) ([]string, error) {
	var ids []string
	for _, id := range l.OfType(kind) {
		yes, err := l.Exists(id)
		if err != nil {
			return nil, err
		}
		if yes {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Resolve works out a value and all that is in it.
func (l Launch) Resolve(v any) (any, error) {
	switch v := v.(type) {
	case []any:
		out := []any{}
		for _, e := range v {
			r, err := l.Resolve(e)
			if err != nil {
				return nil, err
			}
			if _, no := r.(absent); !no {
				out = append(out, r)
			}
		}
		return out, nil
	case map[string]any:
		if len(v) == 1 {
			for name, argument := range v {
				if name == "Ref" || strings.HasPrefix(name, "Fn::") {
					return l.function(name, argument)
				}
			}
		}
		out := map[string]any{}
		for k, e := range v {
			r, err := l.Resolve(e)
			if err != nil {
				return nil, err
			}
			if _, no := r.(absent); !no {
				out[k] = r
			}
		}
		return out, nil
	}
	return v, nil
}

func (l Launch) function(name string, argument any) (any, error) {
	list, _ := argument.([]any)
	arguments := func(n int) error {
		if len(list) != n {
			return fmt.Errorf("%s takes %d values, not %v", name, n, argument)
		}
		return nil
	}
	switch name {
	case "Ref":
		return l.named(fmt.Sprint(argument))
	case "Fn::GetAtt":
		if err := arguments(2); err != nil {
			return nil, err
		}
		return l.physical(fmt.Sprint(list[0]), fmt.Sprint(list[1]))
	case "Fn::Sub":
		return l.sub(argument)
	case "Fn::If":
		if err := arguments(3); err != nil {
			return nil, err
		}
		yes, err := l.holds(map[string]any{"Condition": list[0]})
		if err != nil {
			return nil, err
		}
		if yes {
			return l.Resolve(list[1])
		}
		return l.Resolve(list[2])
	case "Fn::FindInMap":
		if err := arguments(3); err != nil {
			return nil, err
		}
		keys, err := l.Resolve(list)
		if err != nil {
			return nil, err
		}
		k := keys.([]any)
		v, ok := l.Mappings[fmt.Sprint(k[0])][fmt.Sprint(k[1])][fmt.Sprint(k[2])]
		if !ok {
			return nil, fmt.Errorf("no mapping has %v", k)
		}
		return v, nil
	case "Fn::Split":
		if err := arguments(2); err != nil {
			return nil, err
		}
		text, err := l.Resolve(list[1])
		if err != nil {
			return nil, err
		}
		var parts []any
		for part := range strings.SplitSeq(fmt.Sprint(text), fmt.Sprint(list[0])) {
			parts = append(parts, part)
		}
		return parts, nil
	case "Fn::Select":
		if err := arguments(2); err != nil {
			return nil, err
		}
		both, err := l.Resolve(list)
		if err != nil {
			return nil, err
		}
		of, _ := both.([]any)[1].([]any)
		i := 0
		if _, err := fmt.Sscan(fmt.Sprint(both.([]any)[0]), &i); err != nil || i < 0 || i >= len(of) {
			return nil, fmt.Errorf("Fn::Select: %v is not a place in %v", both.([]any)[0], of)
		}
		return of[i], nil
	}
	return nil, fmt.Errorf("%s is not known here", name)
}

// named is what Ref gives.
func (l Launch) named(name string) (any, error) {
	if name == "AWS::NoValue" {
		return absent{}, nil
	}
	if v, ok := l.Values[name]; ok {
		return v, nil
	}
	if p, ok := l.Parameters[name]; ok {
		if p.Default == nil {
			return nil, fmt.Errorf("parameter %s has no value", name)
		}
		return fmt.Sprint(p.Default), nil
	}
	return l.physical(name, "")
}

func (l Launch) physical(id, attribute string) (any, error) {
	if _, ok := l.Resources[id]; !ok {
		return nil, fmt.Errorf("the template has neither a parameter nor a resource %s", id)
	}
	if l.Physical != nil {
		return l.Physical(id, attribute), nil
	}
	if attribute == "" {
		return id, nil
	}
	return id + "." + attribute, nil
}

var variable = regexp.MustCompile(`\$\{([^}]+)\}`)

func (l Launch) sub(argument any) (any, error) {
	local := map[string]any{}
	text, ok := argument.(string)
	if list, _ := argument.([]any); len(list) == 2 {
		text, ok = list[0].(string)
		local, _ = list[1].(map[string]any)
	}
	if !ok {
		return nil, fmt.Errorf("Fn::Sub takes a text, not %v", argument)
	}
	var failed error
	out := variable.ReplaceAllStringFunc(text, func(found string) string {
		name := found[2 : len(found)-1]
		v, err := any(nil), error(nil)
		if value, here := local[name]; here {
			v, err = l.Resolve(value)
		} else if id, attribute, dotted := strings.Cut(name, "."); dotted {
			v, err = l.physical(id, attribute)
		} else {
			v, err = l.named(name)
		}
		if err != nil && failed == nil {
			failed = err
		}
		return fmt.Sprint(v)
	})
	return out, failed
}

// holds works out a condition.
func (l Launch) holds(condition any) (bool, error) {
	c, _ := condition.(map[string]any)
	if len(c) != 1 {
		return false, fmt.Errorf("%v is no condition", condition)
	}
	for name, argument := range c {
		list, _ := argument.([]any)
		switch name {
		case "Condition":
			named, ok := l.Conditions[fmt.Sprint(argument)]
			if !ok {
				return false, fmt.Errorf("the template has no condition %v", argument)
			}
			return l.holds(named)
		case "Fn::Equals":
			both, err := l.Resolve(list)
			if err != nil {
				return false, err
			}
			b := both.([]any)
			return len(b) == 2 && fmt.Sprint(b[0]) == fmt.Sprint(b[1]), nil
		case "Fn::Contains": // of rules
			both, err := l.Resolve(list)
			if err != nil {
				return false, err
			}
			b := both.([]any)
			members, ok := b[0].([]any)
			if len(b) != 2 || !ok {
				return false, fmt.Errorf("%s takes a list and a text, not %v", name, argument)
			}
			for _, m := range members {
				if fmt.Sprint(m) == fmt.Sprint(b[1]) {
					return true, nil
				}
			}
			return false, nil
		case "Fn::Not", "Fn::And", "Fn::Or":
			for _, part := range list {
				yes, err := l.holds(part)
				if err != nil {
					return false, err
				}
				if name == "Fn::Not" {
					return !yes, nil
				}
				if yes == (name == "Fn::Or") {
					return yes, nil
				}
			}
			return name == "Fn::And", nil
		}
	}
	return false, fmt.Errorf("%v is no condition that is known here", condition)
}

// Broken lists the rules of the template that the values break, in its words.
func (l Launch) Broken() ([]string, error) {
	var out []string
	for _, r := range l.Rules {
		for _, a := range r.Assertions {
			ok, err := l.holds(a.Assert)
			if err != nil {
				return nil, err
			}
			if !ok {
				out = append(out, a.AssertDescription)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}
