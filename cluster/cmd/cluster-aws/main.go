// Command cluster-aws runs an ipfs-cluster peer next to an ipfs-aws node and
// works on the peer's folder. All its settings come from the environment and
// from files; docs/cluster.md lists them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/cluster/ctl"
	"github.com/ipfs-aws/ipfs-aws/internal/environ"

	// An image has nothing but this program.

	_ "github.com/ipfs-aws/ipfs-aws/internal/container"
)

func main() {
	cmd := root()
	if args := os.Args[1:]; len(args) > 0 && args[0] == "ctl" {
		cmd.SetArgs(ctl.LongFlags(cmd, args))
	}
	if err := cmd.ExecuteContext(context.Background()); err != nil {
		complain(os.Stderr, err)
		os.Exit(ctl.ExitCode(err))
	}
}

// complain prints an error, one line per problem, each with the program's name.
func complain(w io.Writer, err error) {
	text := err.Error()
	var problems environ.Problems
	if errors.As(err, &problems) {
		text = problems.Error()
	}
	for _, line := range strings.Split(text, "\n") {
		fmt.Fprintf(w, "cluster-aws: %s\n", line)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster-aws",
		Short: "An IPFS Cluster peer that keeps every acknowledged pin",
		Long: `cluster-aws runs an IPFS Cluster peer next to an ipfs-aws node.

Settings come from the environment (CLUSTER_… and IPFS_CLUSTER_PATH); secrets may
be given in files instead (CLUSTER_SECRET_FILE and so on).`,
		Example: `  CLUSTER_PEERNAME=task-1 CLUSTER_SECRET_FILE=secret CLUSTER_SEED_FILE=seed \
  CLUSTER_PEERS=task-1=/dns4/task-1.internal/tcp/9096,task-2=/dns4/task-2.internal/tcp/9096 \
  cluster-aws daemon`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.AddCommand(containerCommand(), healthCommand(), initCommand(), daemonCommand(), stateCommand(), idCommand(), versionCommand(), ctl.Command())
	return cmd
}
