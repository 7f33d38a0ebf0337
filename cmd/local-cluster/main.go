// Command local-cluster runs the deployed topology on one machine: an S3
// server, tasks of an ipfs-aws daemon and a cluster-aws sidecar, and an edge
// that spreads requests over them. It also adds files to it and shows pins, starts
// the same in containers, and is what these need besides the two images.
//
// It imports neither kubo nor ipfs-cluster: it starts their binaries.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/internal/version"
)

func main() {
	soft, hard := signals()
	if err := rootCommand(hard).ExecuteContext(soft); err != nil {
		fmt.Fprintln(os.Stderr, "local-cluster:", err)
		os.Exit(1)
	}
}

// rootCommand is the program. When kill ends, up no longer waits for anything.
func rootCommand(kill context.Context) *cobra.Command {
	root := &cobra.Command{
		Use:   "local-cluster",
		Short: "Run the whole deployed topology on this machine",
		Long: `local-cluster runs what is deployed on AWS as processes on this machine: three
tasks of an ipfs-aws daemon and a cluster-aws sidecar each, blocks in an S3
server (or on disk), and an edge in front of the gateways and cluster APIs.
Everything listens on 127.0.0.1.`,
		Example:       "  local-cluster up --dir .run\n  local-cluster add --dir .run photos/\n  local-cluster pins --dir .run --watch",
		Version:       version.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.AddCommand(upCommand(kill), edgeCommand(), addCommand(), pinsCommand(),
		composeCommand(), bucketCommand(), holdCommand(), healthCommand())
	return root
}

// signals gives two contexts: the first ends at the first SIGINT, SIGTERM or
// SIGHUP, the second at the second.
func signals() (soft, hard context.Context) {
	soft, endSoft := context.WithCancel(context.Background())
	hard, endHard := context.WithCancel(context.Background())
	caught := make(chan os.Signal, 2)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-caught
		endSoft()
		<-caught
		endHard()
	}()
	return soft, hard
}
