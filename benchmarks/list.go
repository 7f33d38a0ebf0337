package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/report"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

func listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "show the stores, workloads and profiles", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "STORE\t\t")
			for _, s := range suite.Stores() {
				fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.Title, s.What)
			}
			fmt.Fprintln(w, "\t\t\nWORKLOAD\t\t")
			for _, l := range suite.Workloads() {
				fmt.Fprintf(w, "%s\t%s\t%s\n", l.Name, l.Title, l.What)
			}
			fmt.Fprintln(w, "\t\t\nPROFILE\t\t")
			for _, p := range profiles {
				fmt.Fprintf(w, "%s\t%d samples, dilation %g\t%s\n", p.name, p.samples, p.dilation, p.what)
			}
			return w.Flush()
		},
	}
}

func reportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "report DIR", Short: "make report.md and report.html anew from results.json", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			res, err := record.Read(args[0])
			if err != nil {
				return err
			}
			return report.Write(res, args[0])
		},
	}
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "print the JSON schema of results.json", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b, err := record.JSONSchema()
			if err == nil {
				_, err = os.Stdout.Write(b)
			}
			return err
		},
	}
}
