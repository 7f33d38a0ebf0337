package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Check the settings and make the peer's folder",
		Long: `Checks all settings, then makes the peer's folder (IPFS_CLUSTER_PATH, mode 0700) and
marks it as this peer's. With a seed nothing secret is written. Without a seed and
without CLUSTER_ID, a random identity is generated into the folder.

"cluster-aws daemon" does the same on its first start.`,
		Example: "  IPFS_CLUSTER_PATH=/data/cluster CLUSTER_PEERNAME=task-1 CLUSTER_SECRET_FILE=secret CLUSTER_SEED_FILE=seed cluster-aws init",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := prepare(plain)
			if err != nil {
				return err
			}
			for _, w := range p.settings.Warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "cluster-aws: warning: %s\n", w)
			}
			what := "made"
			if !p.isNew {
				what = "was there already, nothing changed:"
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s folder %s of peer %s (%s)\n", what, p.settings.Folder, p.settings.PeerName, p.identity.ID); err != nil {
				return err
			}
			return p.lock.Close()
		},
	}
}
