package modules

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// About is what a bill of materials says besides the modules.
type About struct {
	Name, Version string    // of the program
	Commit        string    // that it was built from
	Created       time.Time // of the commit, so that the same commit gives the same bytes
	SHA256        string    // of the binary, in hexadecimal
	File          string    // where the binary is in the image
}

type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	DataLicense   string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID        string         `json:"SPDXID"`
	Name      string         `json:"name"`
	Version   string         `json:"versionInfo,omitempty"`
	File      string         `json:"packageFileName,omitempty"`
	Location  string         `json:"downloadLocation"`
	Analyzed  bool           `json:"filesAnalyzed"`
	Concluded string         `json:"licenseConcluded"`
	Declared  string         `json:"licenseDeclared"`
	Copyright string         `json:"copyrightText"`
	Source    string         `json:"sourceInfo,omitempty"`
	Purpose   string         `json:"primaryPackagePurpose,omitempty"`
	Checksums []spdxChecksum `json:"checksums,omitempty"`
	Refs      []spdxRef      `json:"externalRefs,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

// SPDX is the bill of materials of a binary (https://spdx.github.io/spdx-spec/v2.3/).
func (b *Binary) SPDX(a About) ([]byte, error) {
	const noAssertion = "NOASSERTION"
	main := spdxPackage{
		ID: "SPDXRef-Program", Name: a.Name, Version: a.Version, File: a.File, Location: noAssertion,
		Concluded: b.Main.License, Declared: b.Main.License, Copyright: noAssertion,
		Source: strings.TrimSpace("built with " + b.GoVersion + " for " + b.OS + "/" + b.Arch + " from " + b.Main.Path + " " + a.Commit), Purpose: "APPLICATION",
		Checksums: []spdxChecksum{{"SHA256", a.SHA256}},
		Refs:      []spdxRef{{"PACKAGE-MANAGER", "purl", purl(b.Main.Path, a.Version)}},
	}
	doc := spdxDocument{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: a.Name + "-" + a.Version,
		Namespace:     fmt.Sprintf("https://github.com/ipfs-aws/ipfs-aws/spdx/%s-%s-%s-%s-%s", a.Name, a.Version, b.OS, b.Arch, a.SHA256[:16]),
		Creation:      spdxCreation{a.Created.UTC().Format(time.RFC3339), []string{"Organization: ipfs-aws", "Tool: ipfs-aws-images"}},
		Packages:      []spdxPackage{main},
		Relationships: []spdxRelationship{{"SPDXRef-DOCUMENT", "DESCRIBES", main.ID}},
	}
	for i, m := range b.Modules {
		p := spdxPackage{
			ID: fmt.Sprintf("SPDXRef-Module-%d", i+1), Name: m.Path, Version: m.Version, Location: noAssertion,
			Concluded: m.License, Declared: m.License, Copyright: noAssertion, Purpose: "LIBRARY",
			Refs: []spdxRef{{"PACKAGE-MANAGER", "purl", purl(m.Path, m.Version)}},
		}
		if m.Sum != "" {
			p.Source = "go.sum: " + m.Sum
		}
		doc.Packages = append(doc.Packages, p)
		doc.Relationships = append(doc.Relationships, spdxRelationship{main.ID, "DEPENDS_ON", p.ID})
	}
	out, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write the bill of materials: %w", err)
	}
	return append(out, '\n'), nil
}

// purl is the package URL of a Go module (https://github.com/package-url/purl-spec).
func purl(path, version string) string {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return "pkg:golang/" + strings.Join(parts, "/") + "@" + url.QueryEscape(version)
}
