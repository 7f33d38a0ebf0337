package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

type idReport struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

func idCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "id [NAME…]",
		Short: "Print the peer IDs that the seed gives to peer names",
		Long: `Prints the peer ID that the seed (CLUSTER_SEED or CLUSTER_SEED_FILE) gives to each
name: those in the arguments, else all in CLUSTER_PEERS and CLUSTER_PEERNAME.
Nothing has to run, and nothing is written.`,
		Example: `  CLUSTER_SEED_FILE=seed cluster-aws id task-1 task-2 task-3
  CLUSTER_SEED_FILE=seed cluster-aws id task-1 --json`,
		RunE: func(cmd *cobra.Command, names []string) error {
			seed, known, err := settings.LoadNames(os.Environ())
			if err != nil {
				return err
			}
			if len(names) == 0 {
				names = known
			}
			if len(names) == 0 {
				return fmt.Errorf("there is no peer name: give names as arguments, or set CLUSTER_PEERNAME or CLUSTER_PEERS")
			}
			report := []idReport{}
			for _, name := range names {
				id, err := seed.Identity(name)
				if err != nil {
					return err
				}
				report = append(report, idReport{Name: name, ID: id.ID.String()})
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			}
			for _, r := range report {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", r.Name, r.ID); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array of {name, id}")
	return cmd
}
