package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/api/rest/client"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ipfs-aws/ipfs-aws/cluster/add"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

// aliases are the short names that ipfs-cluster-ctl has for flags, besides
// those of one letter.
var aliases = map[string]string{
	"enc": "encoding", "rmin": "replication-min", "rmax": "replication-max", "allocs": "allocations",
	"ns": "no-status", "wl": "wait-limit", "wt": "wait-timeout",
}

// session is one run of a command.
type session struct {
	client.Client
	global
	cmd *cobra.Command
}

// global holds the flags that all commands have.
type global struct {
	host, basicAuth, encoding         string
	https, insecure, forceHTTP, debug bool
	timeout                           int
}

// Command returns the command "ctl" with all that ipfs-cluster-ctl has.
func Command() *cobra.Command {
	s := &session{}
	cmd := &cobra.Command{
		Use:   "ctl",
		Short: "Talk to the cluster: ipfs-cluster-ctl for this peer",
		Long: `The commands of ipfs-cluster-ctl. In the peer's own environment (docker exec, ECS
Exec) its address and credentials are found in the settings, so no flags are needed.`,
		Example: `  cluster-aws ctl peers ls
  cluster-aws ctl pin add --name photos bafy…
  cluster-aws ctl --enc=json status --filter error`,
		Args:              cobra.NoArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return s.open(cmd) },
	}
	f := cmd.PersistentFlags()
	f.StringVarP(&s.host, "host", "l", "", "API address, a multiaddress (default: this peer's)")
	f.StringVar(&s.basicAuth, "basic-auth", "", "user:password (default: this peer's; an argument can be seen by others on the host)")
	f.StringVar(&s.encoding, "encoding", "text", "output format: text or json")
	f.BoolVarP(&s.https, "https", "s", false, "use HTTPS")
	f.BoolVar(&s.insecure, "no-check-certificate", false, "with --https, accept any certificate")
	f.BoolVarP(&s.forceHTTP, "force-http", "f", false, "accepted for compatibility")
	f.BoolVarP(&s.debug, "debug", "d", false, "log what the client does")
	f.IntVarP(&s.timeout, "timeout", "t", 0, "seconds until a request is given up (0: never)")
	cmd.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if long, ok := aliases[name]; ok {
			name = long
		}
		return pflag.NormalizedName(name)
	})
	cmd.AddCommand(s.id(), s.peers(), s.add(), s.pin(), s.status(), s.recover(), s.version(), s.health(), s.ipfs())
	return cmd
}

// LongFlags rewrites flags with one dash and several letters (-rmin), as
// ipfs-cluster-ctl takes them, to two dashes.
func LongFlags(cmd *cobra.Command, args []string) []string {
	known := map[string]bool{}
	for short := range aliases {
		known[short] = true
	}
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(cmd)
	out := make([]string, len(args))
	for i, a := range args {
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "-"), "=")
		if strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && len(name) > 1 && known[name] {
			a = "-" + a
		}
		out[i] = a
	}
	return out
}

// ExitCode is 2 if the API answered with an error, and 1 if it was not reached
// or not asked.
func ExitCode(err error) int {
	var said api.Error
	if errors.As(err, &said) && said.Code != 0 {
		return 2
	}
	return 1
}

func (s *session) open(cmd *cobra.Command) error {
	s.cmd = cmd
	if s.encoding != "text" && s.encoding != "json" {
		return fmt.Errorf("--encoding %s: must be text or json", s.encoding)
	}
	cfg := &client.Config{Timeout: time.Duration(s.timeout) * time.Second, LogLevel: "fatal", SSL: s.https, NoVerifyCert: s.insecure}
	if s.debug {
		cfg.LogLevel = "debug"
	}
	own, err := settings.LoadAPI(os.Environ())
	if s.host == "" || s.basicAuth == "" {
		if err != nil {
			return err
		}
		cfg.Username, cfg.Password = own.User, own.Password
	}
	if s.host == "" {
		cfg.APIAddr = own.Addr
		if own.TLS {
			// On loopback, and the certificate is for another name.
			cfg.SSL, cfg.NoVerifyCert = true, true
		}
	} else if cfg.APIAddr, err = ma.NewMultiaddr(s.host); err != nil {
		return fmt.Errorf("--host %s: must be a multiaddress such as /ip4/127.0.0.1/tcp/9094: %w", s.host, err)
	}
	if s.basicAuth != "" {
		cfg.Username, cfg.Password, _ = strings.Cut(s.basicAuth, ":")
	}
	if !client.IsPeerAddress(cfg.APIAddr) { // not libp2p
		if cfg.APIAddr, err = relay(cfg.APIAddr, cfg.SSL, cfg.NoVerifyCert, s.warn); err != nil {
			return err
		}
		cfg.SSL = false
	}
	s.Client, err = client.NewDefaultClient(cfg)
	if err != nil {
		return fmt.Errorf("reach the cluster's API: %w", err)
	}
	return nil
}

// warn says who does not hold what was added.
func (s *session) warn(missing []add.Missing) {
	for _, m := range missing {
		fmt.Fprintf(s.cmd.ErrOrStderr(), "%s does not hold it yet, and fetches it from the others: %s\n", cmp.Or(m.Name, m.Peer.String()), m.Error)
	}
}

// each prints what a streaming call sends.
func each[T any](s *session, call func(context.Context, chan<- T) error) error {
	out := make(chan T, 1024)
	done := make(chan error, 1)
	go func() { done <- call(s.cmd.Context(), out) }()
	var failed error
	for one := range out {
		if failed == nil {
			failed = s.print(one)
		}
	}
	return errors.Join(<-done, failed)
}

// one prints the result of a call.
func one[T any](s *session, v T, err error) error {
	if err != nil {
		return err
	}
	return s.print(v)
}
