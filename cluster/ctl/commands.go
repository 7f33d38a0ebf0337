package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/api/rest/client"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// statusDelay lets the peers hear of a change before they are asked for its
// status.
const statusDelay = time.Second

// waitPoll is how often the status is asked for by --wait.
const waitPoll = time.Second

func (s *session) id() *cobra.Command {
	return &cobra.Command{Use: "id", Short: "Show this peer", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		id, err := s.ID(cmd.Context())
		return one(s, id, err)
	}}
}

// group is a command that only has others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	c.AddCommand(subs...)
	return c
}

func (s *session) peers() *cobra.Command {
	return group("peers", "List and manage the peers",
		&cobra.Command{Use: "ls", Short: "List the peers", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			return each(s, s.Peers)
		}},
		&cobra.Command{Use: "rm PEER", Short: "Remove a peer", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			id, err := peer.Decode(args[0])
			if err != nil {
				return fmt.Errorf("%s: must be a peer ID: %w", args[0], err)
			}
			return s.PeerRm(cmd.Context(), id)
		}},
	)
}

// pinFlags are the flags that say how to pin.
type pinFlags struct {
	replication, min, max int
	name, mode, allocs    string
	expire                time.Duration
	metadata              []string
}

func (p *pinFlags) add(f *pflag.FlagSet) {
	f.IntVar(&p.min, "replication-min", 0, "fewest copies (0: the cluster's default)")
	f.IntVar(&p.max, "replication-max", 0, "most copies (0: the cluster's default)")
	f.StringVarP(&p.name, "name", "n", "", "name of the pin")
	f.DurationVar(&p.expire, "expire-in", 0, "unpin after this time")
	f.StringArrayVar(&p.metadata, "metadata", nil, "key=value; may be given several times")
	f.StringVar(&p.allocs, "allocations", "", "peer IDs, separated by commas")
}

func (p *pinFlags) options() (api.PinOptions, error) {
	o := api.PinOptions{Name: p.name, ReplicationFactorMin: p.min, ReplicationFactorMax: p.max}
	if p.replication != 0 {
		o.ReplicationFactorMin, o.ReplicationFactorMax = p.replication, p.replication
	}
	if p.mode != "" {
		if p.mode != "recursive" && p.mode != "direct" {
			return o, fmt.Errorf("--mode %s: must be recursive or direct", p.mode)
		}
		o.Mode = api.PinModeFromString(p.mode)
	}
	if p.allocs != "" {
		for _, text := range strings.Split(p.allocs, ",") {
			id, err := peer.Decode(strings.TrimSpace(text))
			if err != nil {
				return o, fmt.Errorf("--allocations %s: must be peer IDs: %w", text, err)
			}
			o.UserAllocations = append(o.UserAllocations, id)
		}
	}
	if p.expire > 0 {
		o.ExpireAt = time.Now().Add(p.expire)
	}
	for _, kv := range p.metadata {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return o, fmt.Errorf("--metadata %s: must be key=value", kv)
		}
		if o.Metadata == nil {
			o.Metadata = map[string]string{}
		}
		o.Metadata[k] = v
	}
	return o, nil
}

// statusFlags say what to show after a change.
type statusFlags struct {
	noStatus, wait bool
	limit          int
	timeout        time.Duration
}

func (w *statusFlags) add(f *pflag.FlagSet) {
	f.BoolVar(&w.noStatus, "no-status", false, "show the pin, not its status")
	f.BoolVarP(&w.wait, "wait", "w", false, "wait until the change is carried out everywhere")
	f.IntVar(&w.limit, "wait-limit", 0, "with --wait, be content with this many peers")
	f.DurationVar(&w.timeout, "wait-timeout", 0, "with --wait, give up after this time")
}

// after shows the outcome of a change.
func (s *session) after(ctx context.Context, w statusFlags, pin api.Pin, target api.TrackerStatus) error {
	var status api.GlobalPinInfo
	if w.wait {
		limit := w.limit
		if limit == 0 && target == api.TrackerStatusPinned {
			limit = pin.ReplicationFactorMin
		}
		var err error
		if status, err = s.await(ctx, pin.Cid, target, limit, w.timeout); err != nil {
			return fmt.Errorf("wait for %s: %w", pin.Cid, err)
		}
	}
	if w.noStatus {
		return s.print(pin)
	}
	if !status.Defined() {
		if err := pause(ctx, statusDelay); err != nil {
			return err
		}
		var err error
		if status, err = s.Status(ctx, pin.Cid, false); err != nil {
			return err
		}
	}
	return s.print(status)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (s *session) await(ctx context.Context, c api.Cid, target api.TrackerStatus, limit int, timeout time.Duration) (api.GlobalPinInfo, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return client.WaitFor(ctx, s.Client, client.StatusFilterParams{Cid: c, Target: target, Limit: max(limit, 0), CheckFreq: waitPoll})
}

func (s *session) pin() *cobra.Command {
	return group("pin", "Pin, unpin and list", s.pinAdd(), s.pinRm(), s.pinUpdate(), s.pinLs())
}

func (s *session) pinAdd() *cobra.Command {
	var p pinFlags
	var w statusFlags
	c := &cobra.Command{Use: "add CID|PATH", Short: "Pin", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		opts, err := p.options()
		if err != nil {
			return err
		}
		pin, err := s.PinPath(cmd.Context(), args[0], opts)
		if err != nil {
			return err
		}
		return s.after(cmd.Context(), w, pin, api.TrackerStatusPinned)
	}}
	p.add(c.Flags())
	c.Flags().IntVarP(&p.replication, "replication", "r", 0, "number of copies: sets both limits")
	c.Flags().StringVar(&p.mode, "mode", "recursive", "recursive or direct")
	w.add(c.Flags())
	return c
}

func (s *session) pinRm() *cobra.Command {
	var w statusFlags
	c := &cobra.Command{Use: "rm CID|PATH", Short: "Unpin", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		pin, err := s.UnpinPath(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return s.after(cmd.Context(), w, pin, api.TrackerStatusUnpinned)
	}}
	w.add(c.Flags())
	return c
}

func (s *session) pinUpdate() *cobra.Command {
	var p pinFlags
	var w statusFlags
	c := &cobra.Command{Use: "update CID NEW-CID|PATH", Short: "Pin something that resembles what is pinned", Args: cobra.ExactArgs(2), RunE: func(cmd *cobra.Command, args []string) error {
		from, err := decode(args[0])
		if err != nil {
			return err
		}
		opts, err := p.options()
		if err != nil {
			return err
		}
		opts.PinUpdate = from
		pin, err := s.PinPath(cmd.Context(), args[1], opts)
		if err != nil {
			return err
		}
		return s.after(cmd.Context(), w, pin, api.TrackerStatusPinned)
	}}
	c.Flags().StringVarP(&p.name, "name", "n", "", "name of the new pin")
	c.Flags().DurationVar(&p.expire, "expire-in", 0, "unpin after this time")
	w.add(c.Flags())
	return c
}

func decode(text string) (api.Cid, error) {
	c, err := api.DecodeCid(text)
	if err != nil {
		return api.CidUndef, fmt.Errorf("%s: must be a CID: %w", text, err)
	}
	return c, nil
}

func (s *session) pinLs() *cobra.Command {
	var filter string
	c := &cobra.Command{Use: "ls [CID]", Short: "List the pinset", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			id, err := decode(args[0])
			if err != nil {
				return err
			}
			pin, err := s.Allocation(cmd.Context(), id)
			return one(s, pin, err)
		}
		var types api.PinType
		for _, name := range strings.Split(filter, ",") {
			types |= api.PinTypeFromString(name)
		}
		return each(s, func(ctx context.Context, out chan<- api.Pin) error { return s.Allocations(ctx, types, out) })
	}}
	c.Flags().StringVar(&filter, "filter", "pin", "types: all, pin, meta-pin, clusterdag-pin, shard-pin")
	return c
}

func (s *session) status() *cobra.Command {
	var filter string
	var local bool
	c := &cobra.Command{Use: "status [CID…]", Short: "Show what the peers make of the pins", RunE: func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			cids := []api.Cid{}
			for _, a := range args {
				id, err := decode(a)
				if err != nil {
					return err
				}
				cids = append(cids, id)
			}
			return each(s, func(ctx context.Context, out chan<- api.GlobalPinInfo) error {
				return s.StatusCids(ctx, cids, local, out)
			})
		}
		state := api.TrackerStatusFromString(filter)
		if filter != "" && state == api.TrackerStatusUndefined {
			return fmt.Errorf("--filter %s: must be states such as pinned, pinning, queued, error, separated by commas", filter)
		}
		return each(s, func(ctx context.Context, out chan<- api.GlobalPinInfo) error {
			return s.StatusAll(ctx, state, local, out)
		})
	}}
	c.Flags().StringVar(&filter, "filter", "", "states, separated by commas: pinned, pinning, queued, error, …")
	c.Flags().BoolVar(&local, "local", false, "ask this peer only")
	return c
}

func (s *session) recover() *cobra.Command {
	var local bool
	c := &cobra.Command{Use: "recover [CID]", Short: "Try again what failed", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			id, err := decode(args[0])
			if err != nil {
				return err
			}
			info, err := s.Recover(cmd.Context(), id, local)
			return one(s, info, err)
		}
		return each(s, func(ctx context.Context, out chan<- api.GlobalPinInfo) error { return s.RecoverAll(ctx, local, out) })
	}}
	c.Flags().BoolVar(&local, "local", false, "on this peer only")
	return c
}

func (s *session) version() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Show the peer's version of ipfs-cluster", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		v, err := s.Version(cmd.Context())
		return one(s, v, err)
	}}
}

func (s *session) health() *cobra.Command {
	return group("health", "Show how the cluster is",
		s.graph(),
		&cobra.Command{Use: "metrics [NAME]", Short: "Show the latest metrics, or their names", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				names, err := s.MetricNames(cmd.Context())
				return one(s, names, err)
			}
			metrics, err := s.Metrics(cmd.Context(), args[0])
			return one(s, metrics, err)
		}},
		&cobra.Command{Use: "alerts", Short: "Show metrics that expired", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			alerts, err := s.Alerts(cmd.Context())
			return one(s, alerts, err)
		}},
		&cobra.Command{Use: "bandwidth", Short: "Show the traffic by protocol", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := s.BandwidthByProtocol(cmd.Context())
			return one(s, b, err)
		}},
	)
}

func (s *session) graph() *cobra.Command {
	var file string
	var allIPFS bool
	c := &cobra.Command{Use: "graph", Short: "Draw who is connected to whom, for Graphviz", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) (err error) {
		g, err := s.GetConnectGraph(cmd.Context())
		if err != nil {
			return err
		}
		if file == "" {
			return writeDot(cmd.OutOrStdout(), g, allIPFS)
		}
		f, err := os.Create(file)
		if err != nil {
			return fmt.Errorf("write the graph: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		return writeDot(f, g, allIPFS)
	}}
	c.Flags().StringVar(&file, "file", "", "write to this file")
	c.Flags().BoolVar(&allIPFS, "all-ipfs-peers", false, "also draw IPFS nodes outside the cluster")
	return c
}

func (s *session) ipfs() *cobra.Command {
	var local bool
	gc := &cobra.Command{Use: "gc", Short: "Collect garbage on the IPFS nodes", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		r, err := s.RepoGC(cmd.Context(), local)
		return one(s, r, err)
	}}
	gc.Flags().BoolVar(&local, "local", false, "on this peer's node only")
	return group("ipfs", "Manage the IPFS nodes", gc)
}

// add

type addFlags struct {
	pinFlags
	quiet, quieter, noStream, wait, recursive bool
	timeout                                   time.Duration
	params                                    api.AddParams
}

func (s *session) add() *cobra.Command {
	a := addFlags{params: api.DefaultAddParams()}
	c := &cobra.Command{Use: "add PATH…", Short: "Add files or folders to the IPFS nodes and pin them", Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return s.addPaths(cmd.Context(), a, args)
	}}
	f := c.Flags()
	a.pinFlags.add(f)
	f.BoolVarP(&a.recursive, "recursive", "r", false, "add folders with all that is in them")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print only CIDs")
	f.BoolVarP(&a.quieter, "quieter", "Q", false, "print only the last CID")
	f.BoolVar(&a.noStream, "no-stream", false, "print everything at the end; one array with --enc=json")
	f.BoolVar(&a.params.Local, "local", false, "add to this peer's node only; pin as always")
	f.BoolVar(&a.params.NoPin, "no-pin", false, "do not pin")
	f.BoolVar(&a.wait, "wait", false, "wait until it is pinned everywhere")
	f.DurationVar(&a.timeout, "wait-timeout", 0, "with --wait, give up after this time")
	f.BoolVarP(&a.params.Wrap, "wrap-with-directory", "w", false, "wrap in a folder")
	f.StringVar(&a.params.Format, "format", "unixfs", "unixfs, or car to import a CAR file")
	f.StringVar(&a.params.Layout, "layout", "balanced", "balanced or trickle")
	f.BoolVarP(&a.params.Hidden, "hidden", "H", false, "include hidden files")
	f.StringVar(&a.params.Chunker, "chunker", "size-262144", "size-N or rabin-MIN-AVG-MAX")
	f.BoolVar(&a.params.RawLeaves, "raw-leaves", false, "raw blocks for leaves")
	f.IntVar(&a.params.CidVersion, "cid-version", 1, "CID version; 1 implies --raw-leaves")
	f.StringVar(&a.params.HashFun, "hash", "sha2-256", "hash function")
	f.BoolVar(&a.params.NoCopy, "nocopy", false, "add by URL, with the filestore; implies --raw-leaves")
	return c
}

func (s *session) addPaths(ctx context.Context, a addFlags, paths []string) error {
	opts, err := a.options()
	if err != nil {
		return err
	}
	p := a.params
	p.PinOptions = opts
	p.Recursive, p.StreamChannels = a.recursive, !a.noStream
	p.RawLeaves = p.RawLeaves || p.CidVersion > 0 || p.NoCopy
	out := make(chan api.AddedOutput, 64)
	done := make(chan error, 1)
	go func() { done <- s.Add(ctx, paths, p, out) }()
	var all []api.AddedOutput
	var last api.AddedOutput
	for added := range out {
		if !added.Cid.Defined() {
			continue // the last line of an add that failed
		}
		last = added
		switch {
		case a.quieter:
		case a.noStream:
			all = append(all, added)
		default:
			err = errors.Join(err, s.printAdded(added, a.quiet))
		}
	}
	if err := errors.Join(<-done, err); err != nil {
		return err
	}
	switch {
	case a.quieter:
		err = s.printAdded(last, true)
	case a.noStream && s.encoding == "json":
		err = s.print(all)
	default:
		for _, added := range slices.Clone(all) {
			err = errors.Join(err, s.printAdded(added, a.quiet))
		}
	}
	if err != nil || !a.wait || p.NoPin {
		return err
	}
	_, err = s.await(ctx, last.Cid, api.TrackerStatusPinned, opts.ReplicationFactorMin, a.timeout)
	return err
}
