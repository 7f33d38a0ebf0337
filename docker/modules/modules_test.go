package modules

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
)

func goEnv(t *testing.T, name string) string {
	out, err := exec.Command("go", "env", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// binary is a program that is made of modules in the cache.
func binary(t *testing.T) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "images")
	out, err := exec.Command("go", "build", "-o", at, "../cmd/images").CombinedOutput()
	require.NoError(t, err, string(out))
	return at
}

func read(t *testing.T, binary string) *Binary {
	t.Helper()
	b, err := Read(binary, Cache{Dir: goEnv(t, "GOMODCACHE"), GoRoot: goEnv(t, "GOROOT"), Main: "../.."})
	require.NoError(t, err)
	return b
}

func TestEveryModuleHasItsLicence(t *testing.T) {
	b := read(t, binary(t))
	require.Equal(t, "Apache-2.0 OR MIT", b.Main.License)
	got := map[string]string{}
	for _, m := range b.Modules {
		got[m.Path] = m.License
		require.NotEmpty(t, m.Texts, m.Path)
	}
	require.Equal(t, "BSD-3-Clause", got["std"])
	require.Equal(t, "Apache-2.0", got["github.com/spf13/cobra"])
	require.Equal(t, "BSD-3-Clause", got["golang.org/x/mod"])

	dir := t.TempDir()
	require.NoError(t, b.Write(dir))
	for _, m := range b.Modules {
		folder := m.Path
		if m.Path != "std" {
			folder += "@" + m.Version
		}
		for _, text := range m.Texts {
			kept, err := os.ReadFile(filepath.Join(dir, folder, text.Name))
			require.NoError(t, err)
			require.Equal(t, text.Body, kept)
		}
	}
}

func TestAModuleThatIsNotInTheCache(t *testing.T) {
	_, err := Read(binary(t), Cache{Dir: t.TempDir(), GoRoot: goEnv(t, "GOROOT"), Main: "../.."})
	require.ErrorContains(t, err, "`go mod download` brings it")
}

func TestSPDX(t *testing.T) {
	program := binary(t)
	b := read(t, program)
	about := About{Name: "x", Version: "1.0.0+a", Commit: "abc", Created: time.Unix(0, 0), SHA256: strings.Repeat("0f", 32), File: "/x"}
	text, err := b.SPDX(about)
	require.NoError(t, err)
	again, err := read(t, program).SPDX(about)
	require.NoError(t, err)
	require.Equal(t, text, again, "the same binary gives the same bytes")

	var doc struct {
		SPDXVersion, DataLicense, SPDXID, DocumentNamespace string
		CreationInfo                                        struct {
			Created  string
			Creators []string
		}
		Packages []struct {
			SPDXID, Name, VersionInfo, LicenseConcluded, DownloadLocation, CopyrightText string
			ExternalRefs                                                                 []struct{ ReferenceLocator string }
		}
		Relationships []struct{ SPDXElementID, RelationshipType, RelatedSPDXElement string }
	}
	require.NoError(t, json.Unmarshal(text, &doc))
	require.Equal(t, "SPDX-2.3", doc.SPDXVersion)
	require.Equal(t, "CC0-1.0", doc.DataLicense)
	require.Equal(t, "SPDXRef-DOCUMENT", doc.SPDXID)
	require.Equal(t, "1970-01-01T00:00:00Z", doc.CreationInfo.Created)
	require.Len(t, doc.Packages, len(b.Modules)+1)
	ids := map[string]bool{"SPDXRef-DOCUMENT": true}
	for _, p := range doc.Packages {
		require.Regexp(t, `^SPDXRef-[A-Za-z0-9.-]+$`, p.SPDXID)
		require.False(t, ids[p.SPDXID], "an ID is that of one thing")
		ids[p.SPDXID] = true
		require.NotEmpty(t, p.LicenseConcluded, p.Name)
		require.NotEmpty(t, p.DownloadLocation)
		require.NotEmpty(t, p.CopyrightText)
	}
	require.Len(t, doc.Relationships, len(b.Modules)+1)
	for _, r := range doc.Relationships {
		require.True(t, ids[r.SPDXElementID] && ids[r.RelatedSPDXElement], r)
	}
	require.Equal(t, "pkg:golang/github.com/ipfs-aws/ipfs-aws/docker@1.0.0%2Ba", doc.Packages[0].ExternalRefs[0].ReferenceLocator)
}

// The two programs stand on different upstreams, each in a module of its own. Their bills of materials name the one that is inside.
func TestEachProgramNamesItsUpstream(t *testing.T) {
	const kubo, cluster = "github.com/ipfs/kubo", "github.com/ipfs-cluster/ipfs-cluster"
	for name, c := range map[string]struct{ gomod, has, hasNot, main string }{
		"ipfs-aws":    {"../../go.mod", kubo, cluster, "github.com/ipfs-aws/ipfs-aws"},
		"cluster-aws": {"../../cluster/go.mod", cluster, kubo, "github.com/ipfs-aws/ipfs-aws/cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join("../../bin", name)
			require.FileExists(t, program, "run `make build` first")
			b := read(t, program)
			require.Equal(t, c.main, b.Main.Path)
			text, err := b.SPDX(About{Name: name, Version: "1.0.0", Created: time.Unix(0, 0), SHA256: strings.Repeat("0f", 32), File: "/" + name})
			require.NoError(t, err)
			var doc struct {
				Packages []struct{ Name, VersionInfo string }
			}
			require.NoError(t, json.Unmarshal(text, &doc))
			versions := map[string]string{}
			for _, p := range doc.Packages {
				versions[p.Name] = p.VersionInfo
			}
			require.Equal(t, required(t, c.gomod, c.has), versions[c.has])
			require.NotContains(t, versions, c.hasNot)
		})
	}
}

// required is the version of a module that a go.mod asks for.
func required(t *testing.T, gomod, path string) string {
	t.Helper()
	text, err := os.ReadFile(gomod)
	require.NoError(t, err)
	f, err := modfile.ParseLax(gomod, text, nil)
	require.NoError(t, err)
	for _, r := range f.Require {
		if r.Mod.Path == path {
			return r.Mod.Version
		}
	}
	require.FailNow(t, "not required", "%s by %s", path, gomod)
	return ""
}

func TestExpression(t *testing.T) {
	const (
		mit    = "Permission is hereby granted, free of charge, to any person"
		apache = "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND\n   DISTRIBUTION"
		mpl    = "Mozilla Public License, version 2.0\n\n1. Definitions … GNU Affero General Public License"
		bsd3   = "Redistribution and use in source and binary forms … Neither the name of"
		bsd2   = "Redistribution and use in source and binary forms"
	)
	for name, c := range map[string]struct {
		texts []Text
		want  string
	}{
		"one":                {[]Text{{"LICENSE", []byte(mit)}}, "MIT"},
		"a choice":           {[]Text{{"LICENSE", []byte("see below")}, {"LICENSE-APACHE", []byte(apache)}, {"LICENSE-MIT", []byte(mit)}}, "Apache-2.0 OR MIT"},
		"a choice, and more": {[]Text{{"LICENSE-APACHE", []byte(apache)}, {"LICENSE-MIT", []byte(mit)}, {"in/LICENSE", []byte(bsd3)}}, "(Apache-2.0 OR MIT) AND BSD-3-Clause"},
		"no choice":          {[]Text{{"LICENSE", []byte(mpl)}, {"LICENSE-BSD", []byte(bsd3)}}, "BSD-3-Clause AND MPL-2.0"},
		"two in one text":    {[]Text{{"LICENSE", []byte(bsd2 + mit)}}, "BSD-2-Clause AND MIT"},
		"GNU":                {[]Text{{"COPYING", []byte("GNU General Public License, version 3")}}, "GPL-3.0-only"},
	} {
		got, err := expression(c.texts)
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
	_, err := expression([]Text{{"NOTICE", []byte("made by us")}})
	require.ErrorContains(t, err, "no licence that is known here")
}
