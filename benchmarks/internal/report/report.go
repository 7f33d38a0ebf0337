package report

import "github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"

const (
	Markdown = "report.md"
	HTML     = "report.html"
)

func Write(r *record.Results, dir string) error { return nil }
