// Package report makes what people read out of results: report.md, report.html with its plots, and the one table and picture of the
// project's README. It measures nothing and knows no store: everything it shows is in results.json, or follows from it by a formula
// that stands beside the figure.
package report

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
)

// Names of the files.
const (
	Markdown = "report.md"
	HTML     = "report.html"
	Picture  = "picture.svg"
)

// Write writes report.md, report.html and picture.svg to a folder.
func Write(r *record.Results, dir string) error {
	v := view{r}
	page, err := v.html()
	if err != nil {
		return fmt.Errorf("make %s: %w", HTML, err)
	}
	for name, content := range map[string][]byte{Markdown: v.markdown(), HTML: page, Picture: []byte(v.picture())} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return nil
}
