package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	upstream "github.com/ipfs-cluster/ipfs-cluster/version"
	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/internal/version"
)

type versionReport struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Commit      string `json:"commit"`
	IPFSCluster string `json:"ipfsCluster"`
	Go          string `json:"go"`
}

func versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program and of the ipfs-cluster in it",
		Example: "  cluster-aws version --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := versionReport{
				Name: "cluster-aws", Version: version.Version, Commit: version.Commit,
				IPFSCluster: upstream.Version.String(), Go: runtime.Version(),
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s (ipfs-cluster %s)\n", r.Name, r.Version, r.IPFSCluster)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
