package modules

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// repository is what the paths of this repository's modules begin with.
const repository = "github.com/ipfs-aws/ipfs-aws/"

// Module is one module of a binary.
type Module struct {
	// Path and Version are what was built, after replacements; the standard
	// library is "std" with the version of Go.
	Path, Version string
	// Sum is its line in go.sum, "h1:…"; empty for the standard library and for the
	// main module.
	Sum string
	// Texts are the licences, notices and the like that are in it, sorted by name.
	Texts []Text
	// License is the SPDX expression for the texts.
	License string
}

// Text is a file with legal meaning.
type Text struct {
	Name string // relative to the module's folder
	Body []byte
}

// Binary is what a binary says of itself.
type Binary struct {
	GoVersion, OS, Arch string
	Main                Module
	Modules             []Module // the others and the standard library, sorted by path
}

// Cache says where modules lie.
type Cache struct {
	// Dir is the module cache: go env GOMODCACHE.
	Dir string
	// GoRoot is where Go lies, with its licence: go env GOROOT.
	GoRoot string
	// Main is the folder of the main module; empty if it is in the cache like others.
	Main string
}

// Read reads a binary and finds the texts of its modules. A module without a
// licence that is known here is an error.
func Read(binary string, c Cache) (*Binary, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("read what %s was built from: %w", binary, err)
	}
	b := &Binary{GoVersion: info.GoVersion}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS":
			b.OS = s.Value
		case "GOARCH":
			b.Arch = s.Value
		}
	}
	b.Main = Module{Path: info.Main.Path, Version: info.Main.Version, Sum: info.Main.Sum}
	dir := c.Main
	if dir == "" {
		dir, err = c.dir(&info.Main)
		if err != nil {
			return nil, err
		}
	}
	var problems []error
	fill := func(m *Module, dir string, deep bool) {
		m.Texts, err = texts(dir, deep)
		if w, ok := without[m.Path]; ok && err == nil {
			var body []byte
			body, err = os.ReadFile(filepath.Join(dir, w.file))
			m.Texts, m.License = []Text{{w.file, body}}, w.license
		} else if err == nil {
			m.License, err = expression(m.Texts)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s@%s: %w", m.Path, m.Version, err))
		}
	}
	fill(&b.Main, dir, false)
	std := Module{Path: "std", Version: info.GoVersion}
	fill(&std, c.GoRoot, false)
	b.Modules = append(b.Modules, std)
	for _, dep := range info.Deps {
		if dep.Replace != nil && modfile.IsDirectoryPath(dep.Replace.Path) { // its version is empty or "(devel)"
			// A folder replaces it: a module of this repository, under the main module's licence.
			if !strings.HasPrefix(dep.Path, repository) {
				return nil, fmt.Errorf("%s@%s was built from the folder %s, whose licence is not known", dep.Path, dep.Version, dep.Replace.Path)
			}
			continue
		}
		if dep.Replace != nil {
			dep = dep.Replace
		}
		m := Module{Path: dep.Path, Version: dep.Version, Sum: dep.Sum}
		dir, err := c.dir(dep)
		if err != nil {
			return nil, err
		}
		fill(&m, dir, true)
		b.Modules = append(b.Modules, m)
	}
	slices.SortFunc(b.Modules, func(x, y Module) int { return strings.Compare(x.Path, y.Path) })
	return b, errors.Join(problems...)
}

func (c Cache) dir(m *debug.Module) (string, error) {
	p, err := module.EscapePath(m.Path)
	if err != nil {
		return "", fmt.Errorf("find the module %s: %w", m.Path, err)
	}
	v, err := module.EscapeVersion(m.Version)
	if err != nil {
		return "", fmt.Errorf("find the module %s: %w", m.Path, err)
	}
	return filepath.Join(c.Dir, filepath.FromSlash(p)+"@"+v), nil
}

var legal = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying|copyright|notice|patents)s?([-_. ].*)?$`)

// isCode tells source files with such a name from texts.
var isCode = regexp.MustCompile(`(?i)\.(go|html|tmpl|json|s|c|h)$`)

// texts finds the legal files of a module, in its folder and, if deep, in those
// below, but not among its tests.
func texts(dir string, deep bool) ([]Text, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("its folder is not in the module cache; `go mod download` brings it: %w", err)
	}
	var found []Text
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if at != dir && (!deep || name == "testdata" || strings.HasPrefix(name, ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !legal.MatchString(name) || isCode.MatchString(name) || !d.Type().IsRegular() {
			return nil
		}
		body, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		found = append(found, Text{Name: filepath.ToSlash(rel), Body: body})
		return err
	})
	slices.SortFunc(found, func(a, b Text) int { return strings.Compare(a.Name, b.Name) })
	return found, err
}

// Write puts the texts of all modules into a folder, one folder per module.
func (b *Binary) Write(dir string) error {
	for _, m := range append([]Module{b.Main}, b.Modules...) {
		for _, t := range m.Texts {
			at := filepath.Join(dir, filepath.FromSlash(path.Join(m.folder(), t.Name)))
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				return fmt.Errorf("keep the licences: %w", err)
			}
			if err := os.WriteFile(at, t.Body, 0o644); err != nil {
				return fmt.Errorf("keep the licences: %w", err)
			}
		}
	}
	return nil
}

func (m Module) folder() string {
	if m.Sum == "" {
		return m.Path // of the main module and of Go the version is the image's
	}
	return m.Path + "@" + m.Version
}
