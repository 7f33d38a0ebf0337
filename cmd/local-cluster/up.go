package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/internal/local/topology"
)

const (
	defaultDir = ".run"
	// defaultBasePort is below the range that systems give to clients (32768
	// and up), and none of its ports is one that browsers refuse to open.
	defaultBasePort = 18080
)

func upCommand(kill context.Context) *cobra.Command {
	var opt topology.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the topology and stay in the foreground",
		Long: `up starts everything, prints how to use it once all is ready, and stays in the
foreground. Ctrl-C or SIGTERM ends everything within 20 s, a second one at once.
Started again on the same folder, it resumes: same peer IDs, pins and content.

The blockstore is chosen when the folder is made. Logs are in DIR/logs,
the current URLs, credentials and pids in DIR/status.json.

With --s3-endpoint, credentials come from the usual AWS variables.`,
		Example: `  local-cluster up --dir .run --blockstore s3
  local-cluster up --dir /tmp/try --blockstore flatfs --tasks 1 --base-port 20000 --json
  local-cluster up --s3-endpoint http://127.0.0.1:7070 --s3-bucket my-blocks`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program's own file: %w", err)
			}
			opt.Self, opt.Env = self, os.Environ()
			if opt.BinDir == "" {
				opt.BinDir = filepath.Dir(self)
			}
			out, errOut := cmd.OutOrStdout(), cmd.ErrOrStderr()
			opt.Progress = lines(errOut)
			defer context.AfterFunc(cmd.Context(), func() { opt.Progress("ending everything (once more to kill it)") })()
			return topology.Up(cmd.Context(), kill, opt, func(d topology.Description) error {
				if asJSON {
					return json.NewEncoder(out).Encode(d)
				}
				return greet(out, opt.Dir, d)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&opt.Dir, "dir", defaultDir, "folder of the topology; made if need be")
	f.StringVar(&opt.Blockstore, "blockstore", "s3", "where blocks are kept: s3, efs or flatfs")
	f.IntVar(&opt.Tasks, "tasks", 3, "number of tasks")
	f.IntVar(&opt.BasePort, "base-port", defaultBasePort, "first of the ports to use")
	f.StringVar(&opt.S3Endpoint, "s3-endpoint", "", "URL of an S3 server that already runs")
	f.StringVar(&opt.S3Bucket, "s3-bucket", "", "bucket at --s3-endpoint; it must exist")
	f.StringVar(&opt.BinDir, "bin-dir", "", "folder of ipfs-aws, cluster-aws and versitygw (default: this program's own)")
	f.StringVar(&opt.Restart, "restart", topology.RestartNever, "when a task's process ends: never (end everything) or always (replace the task, as ECS does)")
	f.DurationVar(&opt.StartTimeout, "start-timeout", 2*time.Minute, "how long each process may take to become ready")
	f.BoolVar(&asJSON, "json", false, "print one JSON object on stdout once all is ready, and nothing else")
	return cmd
}

// lines writes whole lines, one at a time.
func lines(w io.Writer) func(string) {
	var mu sync.Mutex
	return func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(w, "local-cluster:", line)
	}
}

// greet tells a person what there is and what to try first.
func greet(w io.Writer, dir string, d topology.Description) error {
	example := filepath.Join(dir, "example")
	if err := os.MkdirAll(example, 0o700); err != nil {
		return fmt.Errorf("make a folder to try: %w", err)
	}
	text := []byte("Hello from a cluster of your own.\n")
	if err := os.WriteFile(filepath.Join(example, "hello.txt"), text, 0o600); err != nil {
		return fmt.Errorf("make a file to try: %w", err)
	}
	me := os.Args[0]
	at := ""
	if dir != defaultDir {
		at = " --dir " + quote(dir)
	}
	_, err := fmt.Fprintf(w, `
  gateway      %s
  cluster API  %s
  user         %s
  password     %s
%s
  add a folder     CID=$(%s add%s --quiet %s)
  watch the pins   %s pins%s --watch
  fetch a file     curl -s %s/ipfs/$CID/hello.txt

  Logs are in %s. Ctrl-C ends everything; the next start resumes.

`, d.Gateway, d.API, d.User, d.Password, storage(d.S3),
		quote(me), at, quote(example), quote(me), at, d.Gateway, filepath.Join(dir, "logs"))
	return err
}

func storage(s3 *topology.S3Description) string {
	if s3 == nil {
		return ""
	}
	return fmt.Sprintf("  S3           %s, bucket %s\n", s3.Endpoint, s3.Bucket)
}

// quote makes a word safe to paste into a shell.
func quote(s string) string {
	for _, r := range s {
		plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !plain && r != '/' && r != '.' && r != '-' && r != '_' {
			return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
	}
	if s == "" {
		return "''"
	}
	return s
}

// status finds the running topology for the commands that use it.
func status(dir string) (*topology.Status, error) {
	s, err := topology.ReadStatus(dir)
	if err != nil {
		return nil, err
	}
	if s.API == "" {
		return nil, errors.New("the status of " + dir + " names no API: start the topology again")
	}
	return s, nil
}
