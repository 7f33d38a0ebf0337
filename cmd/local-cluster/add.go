package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func addCommand() *cobra.Command {
	var dir string
	var quiet, asJSON, hidden bool
	cmd := &cobra.Command{
		Use:   "add PATH",
		Short: "Add a file or a folder through the edge, pinned on every task",
		Long: `add sends a file or a folder to the cluster API of the running topology, as one
streamed upload, and prints its root CID. Names that begin with a dot are left
out unless --hidden is given; symbolic links are added as links.`,
		Example: "  local-cluster add photos/\n  CID=$(local-cluster add --quiet notes.txt)",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := status(dir)
			if err != nil {
				return err
			}
			u := &upload{api: s.API, user: s.User, password: s.Password, source: args[0], hidden: hidden}
			stop := showProgress(cmd.ErrOrStderr(), u)
			out := cmd.OutOrStdout()
			var failed error
			root, err := u.run(cmd.Context(), func(a added) {
				if asJSON && failed == nil {
					failed = json.NewEncoder(out).Encode(a)
				}
			})
			stop()
			switch {
			case err != nil:
				return err
			case asJSON:
				return failed
			case quiet:
				_, err = fmt.Fprintln(out, root.CID)
			default:
				_, err = fmt.Fprintf(out, "%s %s\n%s/ipfs/%s\n", root.CID, root.Name, s.Gateway, root.CID)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", defaultDir, "folder of the running topology")
	f.BoolVarP(&quiet, "quiet", "q", false, "print the root CID only")
	f.BoolVar(&asJSON, "json", false, "print a JSON object per entry, the root last")
	f.BoolVar(&hidden, "hidden", false, "with names that begin with a dot")
	return cmd
}

// showProgress counts the bytes sent, on a terminal only, until stopped.
func showProgress(w io.Writer, u *upload) (stop func()) {
	if !terminal(w) {
		return func() {}
	}
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				fmt.Fprint(w, "\r\x1b[K")
				return
			case <-tick.C:
				fmt.Fprintf(w, "\r\x1b[K%.1f MB sent", float64(u.sent.Load())/1e6)
			}
		}
	}()
	return func() { close(done); <-gone }
}

// terminal says whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
