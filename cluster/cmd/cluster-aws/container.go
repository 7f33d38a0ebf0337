package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/internal/container"
)

const (
	healthVariable = "CLUSTER_HEALTH_ADDRESS"
	// defaultHealthAddress is where the health listener is in a container.
	defaultHealthAddress = "127.0.0.1:9098"
)

func containerCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "container",
		Short: "Run the cluster peer as the first process of a container",
		Long: `What the image runs: "cluster-aws daemon" with a health listener on
127.0.0.1:9098 (CLUSTER_HEALTH_ADDRESS says otherwise), a look at the volume
before anything is touched, and an eye on orphaned processes, which the kernel
gives to the first process of a container.

On SIGTERM it is not ready from that moment, takes requests for three more seconds,
and then ends as the daemon does. A second signal hurries it.

All that is wrong with settings and volume is told at once. With --check that is
all that is done.

The exit code is 0 after an end in order, 1 if something was refused or has
failed.`,
		Example: `  CLUSTER_PEERNAME=task-1 CLUSTER_SECRET_FILE=secret CLUSTER_SEED_FILE=seed \
  CLUSTER_PEERS=task-1=/dns4/task-1.internal/tcp/9096,task-2=/dns4/task-2.internal/tcp/9096 \
  IPFS_CLUSTER_PATH=/data/ipfs-cluster cluster-aws container
  cluster-aws container --check`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check {
				return checkContainer(cmd)
			}
			if os.Getpid() == 1 {
				container.ReapOrphans(context.Background())
			}
			return daemon(inImage)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "check the settings and the volume, change nothing, and exit with 0 if all is well")
	return cmd
}

func checkContainer(cmd *cobra.Command) error {
	s, _, err := look(inImage)
	if err != nil {
		return err
	}
	for _, w := range s.Warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "cluster-aws: warning: %s\n", w)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "all is well: peer %s, folder %s\n", s.PeerName, s.Folder)
	return err
}

func healthCommand() *cobra.Command {
	var live bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask the peer in this container whether it is ready, or alive",
		Long: `Asks the peer's health listener (CLUSTER_HEALTH_ADDRESS, or 127.0.0.1:9098) and
exits with 0 if it is ready, with 1 if it is not, or if nothing answers; then it
says why. With --live it asks only whether the process answers, which is right
for a container's health check: a peer whose IPFS node is down must stay up. It
needs no credentials.`,
		Example: "  cluster-aws health\n  cluster-aws health --live",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l := container.Listener{Address: os.Getenv(healthVariable), Setting: healthVariable}
			if l.Address == "" {
				l.Address = defaultHealthAddress
			}
			if live {
				return l.Live(cmd.Context())
			}
			return l.Ready(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "whether the process answers, not whether it is ready")
	return cmd
}
