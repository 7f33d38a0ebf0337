// Command benchmarks measures what blockstores cost and deliver, and tells which one to choose.
//
//	go run ./benchmarks run                    # measure, and write benchmarks/results/<date>/
//	go run ./benchmarks compare A B            # what changed, and whether it is outside the noise
//	go run ./benchmarks advise --stored 500GB  # the monthly bill of each blockstore
//	go run ./benchmarks list                   # the stores, workloads and profiles that there are
//
// benchmarks/README.md describes all of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	goplugin "github.com/ipfs/go-ds-s3/plugin"
	"github.com/ipfs/kubo/cmd/ipfs/kubo"
	"github.com/ipfs/kubo/plugin/loader"
	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	_ "github.com/ipfs-aws/ipfs-aws/benchmarks/internal/stores"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
	_ "github.com/ipfs-aws/ipfs-aws/benchmarks/internal/workloads"
)

func main() {
	if os.Getenv(suite.StockEnv) != "" {
		os.Exit(stockKubo())
	}
	efsmodel.Init()
	if len(os.Args) > 1 && os.Args[1] == "run" {
		efsmodel.Isolate() // mounts are seen by this program and its children only
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use: "benchmarks", Short: "measure what blockstores cost and deliver", SilenceUsage: true, SilenceErrors: true,
		Long: "Measures what blockstores cost and deliver, on models of S3 and EFS or on the real ones, and tells which one to choose.\nbenchmarks/README.md describes all of it.",
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(runCommand(), compareCommand(), adviseCommand(), reportCommand(), listCommand(), schemaCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		var ended *exitError
		if errors.As(err, &ended) {
			os.Exit(ended.code)
		}
		os.Exit(1)
	}
}

// exitError is an error whose meaning a script can tell by the exit code.
type exitError struct {
	error
	code int
}

func (e *exitError) Unwrap() error { return e.error }

// stockKubo is upstream's kubo with go-ds-s3: nothing of ours is in it.
func stockKubo() int {
	return kubo.Start(kubo.BuildEnv(func(l *loader.PluginLoader) error {
		for _, p := range goplugin.Plugins {
			if err := l.Load(p); err != nil {
				return err
			}
		}
		return nil
	}))
}
