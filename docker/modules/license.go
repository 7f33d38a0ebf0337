package modules

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// without are modules that come without a licence text: what they say of
// themselves, and in which of their files.
var without = map[string]struct{ license, file string }{
	// Go's own package of that name, as its header says, with another alphabet.
	"github.com/whyrusleeping/base32": {"BSD-3-Clause", "base32.go"},
	// "MIT" and its author in the README.
	"github.com/lanzafame/go-libp2p-ocgorpc": {"MIT", "README.md"},
}

// expression is the SPDX expression of a module's texts. Texts in one folder
// that are named after their licences (LICENSE-MIT, LICENSE-APACHE) are a
// choice, where no other text there is a licence; everything else adds up.
func expression(texts []Text) (string, error) {
	type folder struct{ named, other []string }
	folders := map[string]*folder{}
	for _, t := range texts {
		f := folders[path.Dir(t.Name)]
		if f == nil {
			f = &folder{}
			folders[path.Dir(t.Name)] = f
		}
		ids := identify(string(t.Body))
		if named(path.Base(t.Name)) {
			f.named = append(f.named, ids...)
		} else {
			f.other = append(f.other, ids...)
		}
	}
	var all []string
	for _, f := range folders {
		f.named = unique(f.named)
		if len(f.named) > 1 && len(f.other) == 0 {
			all = append(all, strings.Join(f.named, " OR "))
			continue
		}
		all = append(append(all, f.named...), f.other...)
	}
	all = unique(all)
	switch len(all) {
	case 0:
		return "", fmt.Errorf("no licence that is known here is in it: look at it, and teach identify (docker/modules/license.go) what it is")
	case 1:
		return all[0], nil
	}
	for i, id := range all {
		if strings.Contains(id, " OR ") {
			all[i] = "(" + id + ")"
		}
	}
	return strings.Join(all, " AND "), nil
}

func named(file string) bool {
	file = strings.ToUpper(file)
	return strings.HasPrefix(file, "LICENSE-") || strings.HasPrefix(file, "LICENSE_")
}

func unique(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// signs are sentences that stand in a licence and in no other text, in small
// letters with single blanks. The first that is found wins among those of a
// family; a text may hold licences of several families.
var signs = [][]struct{ id, sign string }{
	{ // MPL names the GNU licences
		{"MPL-2.0", "mozilla public license, version 2.0 1. definitions"},
		{"MPL-2.0", "mozilla public license version 2.0 ================================== 1. definitions"},
		{"AGPL-3.0-only", "gnu affero general public license"},
		{"LGPL-3.0-only", "gnu lesser general public license"},
		{"GPL-3.0-only", "gnu general public license"},
	},
	{
		{"Apache-2.0", "terms and conditions for use, reproduction, and distribution"},
		{"Apache-2.0", "licensed under the apache license, version 2.0 (the"},
		{"Apache-2.0 OR MIT", "licensed under the `permissive license stack`, meaning either of"},
	},
	{
		{"BSD-3-Clause", "neither the name"},
		{"BSD-3-Clause", "used to endorse or promote"},
		{"BSD-2-Clause", "redistribution and use in source and binary forms"},
	},
	{{"MIT", "permission is hereby granted, free of charge"}},
	{{"ISC", "permission to use, copy, modify, and/or distribute this software for any purpose"}, {"ISC", "permission to use, copy, modify, and distribute this software for any purpose"}},
	{{"Unlicense", "this is free and unencumbered software released into the public domain"}},
	{{"CC0-1.0", "cc0 1.0 universal"}},
}

// identify names the licences that a text is; none for another text, such as a
// notice.
func identify(text string) []string {
	t := strings.ToLower(strings.Join(strings.Fields(text), " "))
	var ids []string
	for _, family := range signs {
		for _, s := range family {
			if strings.Contains(t, s.sign) {
				ids = append(ids, s.id)
				break
			}
		}
	}
	return ids
}
