package main

import (
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/internal/local/compose"
	"github.com/ipfs-aws/ipfs-aws/internal/version"
)

// ourFiles is the folder of the project's own compose.yaml.
const ourFiles = "docker"

func composeCommand() *cobra.Command {
	d := &compose.Deployment{}
	cmd := &cobra.Command{
		Use:   "compose",
		Short: "Start and end the deployment in containers",
		Long: `compose starts docker/compose.yaml, the deployment in small: three tasks of two
containers, an S3 server, and the edge, with HTTPS. Secrets and certificates are
made in a folder of their own; data is in volumes of Docker. Everything that is
published is on 127.0.0.1.`,
		Example: "  local-cluster compose up --blockstore s3\n  local-cluster compose down",
		Args:    cobra.NoArgs,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&d.Files, "files", ourFiles, "folder of compose.yaml")
	f.StringVar(&d.Dir, "dir", ".compose", "folder of secrets and certificates; made if need be")
	f.StringVar(&d.Project, "project", "ipfs-aws", "name of the deployment, for Docker")
	f.StringVar(&d.Version, "version", version.Version, "tag of the images")
	f.StringVar(&d.Blockstore, "blockstore", "s3", "where blocks are kept: s3 or efs")
	f.IntVar(&d.GatewayPort, "gateway-port", 8443, "port of the gateway on 127.0.0.1")
	f.IntVar(&d.APIPort, "api-port", 9443, "port of the cluster API on 127.0.0.1")
	f.DurationVar(&d.Timeout, "start-timeout", 2*time.Minute, "how long the front doors may take once the containers are up")
	cmd.AddCommand(composeUpCommand(d), composeDownCommand(d), composePrepareCommand(d))
	return cmd
}

func composeUpCommand(d *compose.Deployment) *cobra.Command {
	return &cobra.Command{
		Use:     "up",
		Short:   "Start what does not run, wait until it serves, and say how to use it",
		Long:    "up starts what does not run, each container when what it needs is healthy, and prints the two URLs once both serve.",
		Example: "  local-cluster compose up --blockstore efs",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.Out = cmd.ErrOrStderr()
			doors, err := d.Up(cmd.Context())
			if err != nil {
				return err
			}
			return welcome(cmd.OutOrStdout(), d, doors)
		},
	}
}

func composeDownCommand(d *compose.Deployment) *cobra.Command {
	var volumes bool
	cmd := &cobra.Command{
		Use:     "down",
		Short:   "End everything; volumes stay unless --volumes",
		Long:    "down ends and removes the containers, each after what needs it. The next up goes on with the same peers, pins and content.",
		Example: "  local-cluster compose down --volumes",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.Out = cmd.ErrOrStderr()
			return d.Down(cmd.Context(), volumes)
		},
	}
	cmd.Flags().BoolVar(&volumes, "volumes", false, "remove the data as well")
	return cmd
}

func composePrepareCommand(d *compose.Deployment) *cobra.Command {
	return &cobra.Command{
		Use:     "prepare",
		Short:   "Make secrets and certificates, and start nothing",
		Long:    "prepare makes what is missing in the folder of secrets and certificates, and renews a certificate that ends soon. up does it as well.",
		Example: "  local-cluster compose prepare --dir .compose",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return compose.Prepare(d.Dir) },
	}
}

// welcome says what there is and what to try first.
func welcome(w io.Writer, of *compose.Deployment, d *compose.Doors) error {
	dir, end := of.Dir, "make compose-down"
	if of.Files != ourFiles {
		end = fmt.Sprintf("local-cluster compose down --files %s --project %s", quote(of.Files), quote(of.Project))
	}
	curl := "curl --cacert " + quote(d.CA)
	_, err := fmt.Fprintf(w, `
  gateway      %s
  cluster API  %s
  user         %s
  password     %s
  authority    %s   (trust it, or give it to the client)

  add a file       %s -u "$(cat %s)" -F file=@README.md '%s/add?cid-version=1'
  watch the pins   %s -u "$(cat %s)" %s/pins
  fetch a file     %s %s/ipfs/CID

  %s
  ends everything; the next start goes on with the same data.

`, d.Gateway, d.API, d.User, d.Password, d.CA,
		curl, quote(credentialsFile(dir)), d.API, curl, quote(credentialsFile(dir)), d.API, curl, d.Gateway, end)
	return err
}

func credentialsFile(dir string) string { return filepath.Join(dir, "secrets", "rest_credentials") }
