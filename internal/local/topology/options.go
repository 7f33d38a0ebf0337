package topology

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Blockstores that a topology can be made with.
var Blockstores = []string{"s3", "efs", "flatfs"}

// What to do with a task of which a process has ended by itself.
const (
	RestartNever  = "never"  // end everything
	RestartAlways = "always" // replace the task, as ECS does
)

// MaxTasks bounds the number of tasks; each is two processes and about 300 MB.
const MaxTasks = 20

// Options say what to run.
type Options struct {
	Dir        string // the topology's folder
	Blockstore string // one of Blockstores
	Tasks      int    // 1 to MaxTasks
	BasePort   int    // first of the ports, see Ports
	S3Endpoint string // URL of an S3 server that already runs; empty: start one
	S3Bucket   string // bucket at S3Endpoint
	BinDir     string // folder of ipfs-aws, cluster-aws and versitygw
	Self       string // this executable, which also is the edge
	Restart    string // RestartNever or RestartAlways
	// StartTimeout bounds the wait for each process to become ready.
	StartTimeout time.Duration
	// Progress gets one line at a time about what is going on. It must be safe
	// for concurrent use.
	Progress func(line string)
	// Env is the environment to take the children's from; see childEnv.
	Env []string
}

// check reports everything that is wrong with the options by themselves.
func (o *Options) check() error {
	var problems []string
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if !slices.Contains(Blockstores, o.Blockstore) {
		bad("--blockstore %q is not known: use one of %s", o.Blockstore, strings.Join(Blockstores, ", "))
	}
	if o.Tasks < 1 || o.Tasks > MaxTasks {
		bad("--tasks %d: must be from 1 to %d", o.Tasks, MaxTasks)
	} else if last := o.BasePort + portsOfTask*(o.Tasks+1) - 1; o.BasePort < 1024 || last > 65535 {
		bad("--base-port %d: must be from 1024 to %d for %d tasks", o.BasePort, 65536-portsOfTask*(o.Tasks+1), o.Tasks)
	}
	if o.Restart != RestartNever && o.Restart != RestartAlways {
		bad("--restart %q is not known: use %s or %s", o.Restart, RestartNever, RestartAlways)
	}
	if o.StartTimeout <= 0 {
		bad("--start-timeout %s: must be above zero", o.StartTimeout)
	}
	if (o.S3Endpoint == "") != (o.S3Bucket == "") {
		bad("--s3-endpoint and --s3-bucket go together: give both for a server that already runs, neither to start one")
	} else if o.S3Endpoint != "" && o.Blockstore != "s3" {
		bad("--s3-endpoint is for --blockstore s3, and --blockstore is %s", o.Blockstore)
	} else if u, err := url.Parse(o.S3Endpoint); o.S3Endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		bad("--s3-endpoint %q: must be a URL such as http://127.0.0.1:7070", o.S3Endpoint)
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// ownS3 says whether the topology has an S3 server of its own.
func (o *Options) ownS3() bool { return o.Blockstore == "s3" && o.S3Endpoint == "" }

// checkBinaries makes sure that all executables are there before any is run.
func (o *Options) checkBinaries() error {
	names := []string{"ipfs-aws", "cluster-aws"}
	if o.ownS3() {
		names = append(names, "versitygw")
	}
	var missing []string
	for _, name := range names {
		info, err := os.Stat(o.binary(name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, o.binary(name)+" is missing")
		case err != nil:
			missing = append(missing, err.Error())
		case info.IsDir() || info.Mode()&0o111 == 0:
			missing = append(missing, o.binary(name)+" is not executable")
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s: run `make build`, or name the folder that holds the binaries with --bin-dir", strings.Join(missing, "; "))
	}
	return nil
}

func (o *Options) binary(name string) string { return filepath.Join(o.BinDir, name) }
