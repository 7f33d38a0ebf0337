package main

import (
	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/internal/local/edge"
)

func edgeCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "edge",
		Short: "Run an edge: listeners for gateway and cluster API in front of tasks",
		Long: `edge spreads requests over the targets that are ready. It is started by up, and
can be used by itself in front of any ipfs-aws and cluster-aws processes.

The configuration is a JSON file:

  {"gateway": {"listen": "127.0.0.1:8080", "targets": [
      {"name": "task-1", "url": "http://127.0.0.1:18090", "ready": "http://127.0.0.1:18095/readyz"}]},
   "api": {"listen": "127.0.0.1:9094", "targets": […]},
   "health": "127.0.0.1:8083", "checkMillis": 1000, "drainMillis": 5000,
   "tls": {"certificate": "tls.crt", "key": "tls.key"}}

Without "tls" both are HTTP.

Log lines go to stdout; a request's are: listener, method, path, target, status,
bytes, milliseconds. SIGTERM lets requests in flight finish for drainMillis.`,
		Example: "  local-cluster edge --config edge.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := edge.LoadConfig(path)
			if err != nil {
				return err
			}
			e, err := edge.Listen(cfg, cmd.OutOrStdout())
			if err != nil {
				return err
			}
			return e.Serve(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration file")
	if err := cmd.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag is defined one line above
	}
	return cmd
}
