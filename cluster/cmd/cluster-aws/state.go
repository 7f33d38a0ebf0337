package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

func stateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "state",
		Short: "List, export, import or remove the pinset of a peer that is not running",
		Long: `Works on the pinset in the peer's folder (IPFS_CLUSTER_PATH) while the peer is not
running. The export format is that of ipfs-cluster-service: one JSON object per
pin and line.`,
		Example: "  IPFS_CLUSTER_PATH=/data/cluster cluster-aws state export > pins.jsonl",
		Args:    cobra.NoArgs,
	}
	cmd.AddCommand(stateExport(), stateImport(), stateLs(), stateCleanup())
	return cmd
}

// withPinset locks the folder and opens its pinset.
func withPinset(cmd *cobra.Command, create bool, do func(context.Context, *pinset.Pinset) error) (err error) {
	s, err := settings.LoadFolder(os.Environ())
	if err != nil {
		return err
	}
	if err := silence(); err != nil {
		return err
	}
	if _, err := os.Stat(string(s.Folder)); err != nil && !create {
		return fmt.Errorf("IPFS_CLUSTER_PATH: there is no cluster folder: %w", err)
	}
	lock, err := s.Folder.Lock()
	if err != nil {
		return fmt.Errorf("%w; stop the daemon first", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	p, err := pinset.Open(s.Folder.StorePath(), create)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return do(cmd.Context(), p)
}

func stateExport() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "export",
		Short:   "Write the pinset as JSON lines",
		Example: "  cluster-aws state export --file pins.jsonl",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withPinset(cmd, false, func(ctx context.Context, p *pinset.Pinset) (err error) {
				var out io.Writer = cmd.OutOrStdout()
				if file != "" {
					f, ferr := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
					if ferr != nil {
						return fmt.Errorf("--file: %w", ferr)
					}
					defer func() { err = errors.Join(err, f.Close()) }()
					out = f
				}
				buf := bufio.NewWriter(out)
				n, err := p.Export(ctx, buf)
				if err == nil {
					err = buf.Flush()
				}
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "exported %d pins\n", n)
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "write to this file instead of stdout")
	return cmd
}

func stateImport() *cobra.Command {
	var replace bool
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Add the pins of an export to the pinset",
		Long: `Reads an export (from FILE, or from stdin) whole, then adds its pins to the pinset
of this peer's folder; pins that are there already take the imported form. With
--replace the pinset is emptied first.

Import on one peer of a cluster; the others receive the pins when it runs.`,
		Example: `  cluster-aws state import pins.jsonl
  cluster-aws state import --replace < pins.jsonl`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if len(args) == 1 {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			pins, err := pinset.Read(bufio.NewReader(in))
			if err != nil {
				return err
			}
			removed := 0
			if replace {
				err := withPinset(cmd, true, func(ctx context.Context, p *pinset.Pinset) (err error) {
					removed, err = p.Clear(ctx)
					return err
				})
				if err != nil {
					return err
				}
			}
			return withPinset(cmd, true, func(ctx context.Context, p *pinset.Pinset) error {
				if err := p.Add(ctx, pins); err != nil {
					return err
				}
				if replace {
					fmt.Fprintf(cmd.ErrOrStderr(), "removed %d pins\n", removed)
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "imported %d pins\n", len(pins))
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&replace, "replace", false, "empty the pinset first")
	return cmd
}

func stateLs() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List the pinset: CID and name of every pin",
		Example: "  cluster-aws state ls --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withPinset(cmd, false, func(ctx context.Context, p *pinset.Pinset) error {
				buf := bufio.NewWriter(cmd.OutOrStdout())
				enc := json.NewEncoder(buf)
				err := p.Each(ctx, func(pin api.Pin) error {
					if asJSON {
						return enc.Encode(pin)
					}
					_, err := fmt.Fprintf(buf, "%s %s\n", pin.Cid, pin.Name)
					return err
				})
				if err != nil {
					return err
				}
				return buf.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per pin and line")
	return cmd
}

func stateCleanup() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove the pinset from this peer's folder",
		Long: `Removes the pinset from this peer's folder. Nothing is unpinned: the IPFS node
keeps its content, and if other peers of the cluster have the pinset, this peer
receives it from them when it runs again.`,
		Example: "  cluster-aws state cleanup --yes",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				return errors.New("this removes the pinset from the folder; say so with --yes")
			}
			return withPinset(cmd, false, func(ctx context.Context, p *pinset.Pinset) error {
				n, err := p.Clear(ctx)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "removed %d pins\n", n)
				return nil
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do it")
	return cmd
}
