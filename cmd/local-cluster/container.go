package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/internal/container"
	"github.com/ipfs-aws/ipfs-aws/internal/local/topology"
)

// holdCommand is what keeps the network of a task, which its two containers join, so
// that each of them can be replaced without the other.
func holdCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "hold",
		Short:   "Do nothing until SIGTERM: the container that has a task's network",
		Long:    "hold waits for SIGTERM or SIGINT. Containers that join its network can come and go, as in a task of ECS.",
		Example: "  local-cluster hold",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			<-cmd.Context().Done()
			return nil
		},
	}
}

func healthCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:     "health",
		Short:   "Ask the edge in this container whether it is ready",
		Long:    "health asks the edge's health listener, and exits with 0 if gateway and API have a target that is ready, else with 1 and the reason.",
		Example: "  local-cluster health --address 127.0.0.1:8083",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return container.Listener{Address: address, Setting: "--address"}.Ready(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&address, "address", "127.0.0.1:8083", "the edge's health listener")
	return cmd
}

func bucketCommand() *cobra.Command {
	var endpoint, name, access, secret string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "bucket",
		Short: "Make a bucket at an S3 server, once it answers",
		Long: `bucket waits until the S3 server answers and makes the bucket, or finds it there.
The keys come from files.`,
		Example: "  local-cluster bucket --endpoint http://s3:7070 --name blocks --access-key-file access --secret-key-file secret",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys := make([]string, 2)
			for i, path := range []string{access, secret} {
				b, err := os.ReadFile(path)
				if err != nil {
					return fmt.Errorf("read a key of the S3 server: %w", err)
				}
				keys[i] = strings.TrimSpace(string(b))
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), wait)
			defer cancel()
			for {
				err := topology.MakeBucket(ctx, endpoint, name, keys[0], keys[1])
				if err == nil {
					return nil
				}
				select {
				case <-ctx.Done():
					return err
				case <-time.After(200 * time.Millisecond):
				}
			}
		},
	}
	f := cmd.Flags()
	f.StringVar(&endpoint, "endpoint", "", "URL of the S3 server")
	f.StringVar(&name, "name", "", "the bucket")
	f.StringVar(&access, "access-key-file", "", "file of the access key")
	f.StringVar(&secret, "secret-key-file", "", "file of the secret key")
	f.DurationVar(&wait, "wait", time.Minute, "how long the server may take to answer")
	for _, required := range []string{"endpoint", "name", "access-key-file", "secret-key-file"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic(err) // the flag is defined a few lines above
		}
	}
	return cmd
}
