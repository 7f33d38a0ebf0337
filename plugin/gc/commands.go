package gc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	cmds "github.com/ipfs/go-ipfs-cmds"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/commands/cmdenv"
	"github.com/ipfs/kubo/core/commands/cmdutils"
	dagcmd "github.com/ipfs/kubo/core/commands/dag"

	"github.com/ipfs-aws/ipfs-aws/node/gc"
	"github.com/ipfs-aws/ipfs-aws/node/pins"
)

// Extend changes the commands below a root that have to do with what is kept.
func Extend(root *cmds.Command) {
	replaceRepoGC(at(root, "repo", "gc"))
	for _, path := range [][]string{
		{"add"}, {"block", "put"}, {"dag", "put"}, {"dag", "import"}, {"pin", "add"}, {"pin", "update"},
		{"files", "write"}, {"files", "cp"}, {"files", "mv"}, {"files", "mkdir"}, {"files", "rm"}, {"files", "flush"}, {"files", "chcid"},
		{"files", "chmod"}, {"files", "touch"},
	} {
		if path[0] == "files" {
			recordFirst(at(root, path...))
		}
		asOperation(at(root, path...))
	}
	flushAdded(at(root, "add"))
	boundPinAdd(at(root, "pin", "add"))
	localImport(at(root, "dag", "import"))
	adoptCopied(at(root, "files", "cp"))
}

func at(c *cmds.Command, path ...string) *cmds.Command {
	for _, name := range path {
		c = c.Subcommands[name]
		if c == nil {
			panic("kubo has no command " + strings.Join(path, " "))
		}
	}
	return c
}

func nodeOf(env cmds.Environment) (*core.IpfsNode, *state, error) {
	n, err := cmdenv.GetNode(env)
	if err != nil {
		return nil, nil, err
	}
	s, err := stateOf(n.Repo)
	return n, s, err
}

type opKey struct{}

// asOperation has a command be an operation from its begin to its end.
func asOperation(c *cmds.Command) {
	run := c.Run
	c.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		_, s, err := nodeOf(env)
		if err != nil {
			return err
		}
		op := s.guard.Begin()
		defer op.End()
		inOp := *req
		inOp.Context = context.WithValue(req.Context, opKey{}, op)
		return run(&inOp, res, env)
	}
}

// flushAdded has `add --to-files` return when the root of MFS with the new file is recorded, as `files cp` does: kubo records
// it up to 3 s later, and a kill before that loses the file.
func flushAdded(c *cmds.Command) {
	run := c.Run
	c.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		err := run(req, res, env)
		if _, linked := req.Options["to-files"].(string); err != nil || !linked {
			return err
		}
		n, s, err := nodeOf(env)
		if err != nil {
			return err
		}
		root, err := n.FilesRoot.GetDirectory().GetNode()
		if err == nil {
			err = s.ds.record(req.Context, root.Cid())
		}
		if err != nil {
			return fmt.Errorf("add: record the root of MFS: %w", err)
		}
		return nil
	}
}

// boundPinAdd bounds the wait for the root of what is to be pinned, which kubo fetches before it asks the pinner.
func boundPinAdd(c *cmds.Command) {
	c.Helptext.LongDescription += `
A pin that gets no new block for IPFS_PIN_STALL (1m50s) fails, and names what is missing.
`
	run := c.Run
	c.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		n, s, err := nodeOf(env)
		if err != nil {
			return err
		}
		api, err := cmdenv.GetApi(env, req)
		if err != nil {
			return err
		}
		if err := req.ParseBodyArgs(); err != nil {
			return err
		}
		p, ok := n.Pinning.(*pins.Pinner)
		if !ok {
			return errors.New("pin add: the pinner is not ours: this is a fault of ipfs-aws, please report it")
		}
		for _, arg := range req.Arguments {
			path, err := cmdutils.PathOrCidPath(arg)
			if err != nil {
				return err
			}
			ctx, cancel := req.Context, context.CancelFunc(func() {})
			if s.stall > 0 {
				ctx, cancel = context.WithTimeout(ctx, s.stall)
			}
			resolved, _, err := api.ResolvePath(ctx, path)
			late := ctx.Err() != nil && req.Context.Err() == nil
			cancel()
			if late {
				return fmt.Errorf("pin: %s could not be resolved within %s (%w): check that a peer that has the content is reachable, and pin again", arg, s.stall, err)
			}
			if err != nil {
				return err
			}
			if err := p.FetchOne(req.Context, resolved.RootCid()); err != nil {
				return fmt.Errorf("pin: %w", err)
			}
		}
		return run(req, res, env)
	}
}

// localImport has the roots of a CAR be pinned from what is here alone, as kubo's help says, and fail the command if one cannot be.
func localImport(c *cmds.Command) {
	run := c.Run
	c.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		local := *req
		local.Context = pins.WithLocal(req.Context)
		watched := &imported{ResponseEmitter: res}
		if err := run(&local, watched, env); err != nil {
			return err
		}
		if len(watched.failed) > 0 {
			return fmt.Errorf("%s: nothing of the CAR stays pinned under a root that is not whole: import the missing blocks, or import with --pin-roots=false", strings.Join(watched.failed, "; "))
		}
		return nil
	}
}

// imported notes roots that were not pinned.
type imported struct {
	cmds.ResponseEmitter
	failed []string
}

func (e *imported) Emit(v any) error {
	if out, ok := v.(*dagcmd.CarImportOutput); ok && out.Root != nil && out.Root.PinErrorMsg != "" {
		e.failed = append(e.failed, fmt.Sprintf("pinning root %s failed: %s", out.Root.Cid, out.Root.PinErrorMsg))
	}
	return e.ResponseEmitter.Emit(v)
}

// adoptCopied keeps what is copied into MFS from a collection that has not seen it, and fails if a part of it is gone already.
func adoptCopied(c *cmds.Command) {
	run := c.Run
	c.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		n, s, err := nodeOf(env)
		if err != nil {
			return err
		}
		op, _ := req.Context.Value(opKey{}).(*gc.Operation)
		path, err := cmdutils.PathOrCidPath(req.Arguments[0])
		if op == nil || err != nil { // a path in MFS, which is kept; or a mistake that the command explains
			return run(req, res, env)
		}
		api, err := cmdenv.GetApi(env, req)
		if err != nil {
			return err
		}
		// An IPFS path that does not resolve may be one in MFS.
		if resolved, _, err := api.ResolvePath(req.Context, path); err == nil {
			root := resolved.RootCid()
			if err := op.Adopt(req.Context, root); err != nil {
				return err
			}
			if err := intact(req.Context, n, s, root); err != nil {
				return err
			}
		}
		return run(req, res, env)
	}
}

// intact fails if a block below root was removed by the collection that runs.
func intact(ctx context.Context, n *core.IpfsNode, s *state, root cid.Cid) error {
	if !s.guard.Collecting() {
		return nil
	}
	p, ok := n.Pinning.(*pins.Pinner)
	if !ok {
		return nil
	}
	var missing *pins.IncompleteError
	if err := p.Fetch(pins.WithLocal(ctx), root); errors.As(err, &missing) {
		for _, c := range missing.Missing {
			if s.guard.Removed(c) {
				return fmt.Errorf("cp: block %s of %s was removed by the garbage collection that runs, nothing was copied: pin content that is to stay, or add it again", c, root)
			}
		}
	} else if err != nil {
		return err
	}
	return nil
}

// Event is what `repo gc` emits: kubo's GcResult, and with --dry-run more.
type Event struct {
	Key   cid.Cid
	Error string `json:",omitempty"`

	Size    int64    `json:",omitempty"` // of the block, with --dry-run
	Summary *Summary `json:",omitempty"` // of --dry-run: the last event, without a key
	Note    string   `json:",omitempty"` // for people
}

// Summary is what a collection would do.
type Summary struct {
	Blocks int   // that would go
	Bytes  int64 // in them
	Kept   int   // blocks that stay
}

const (
	dryRunOption = "dry-run"
	minAgeOption = "min-age"
	adoptOption  = "adopt"
)

func replaceRepoGC(c *cmds.Command) {
	c.Helptext.Tagline = "Remove blocks that nothing needs."
	c.Helptext.ShortDescription = `
Removes the blocks that no pin and no file of MFS needs, and that no one has
touched for a while: blocks that were written, or found present by an add, import
or pin, within IPFS_GC_MIN_AGE (1h) stay, and so do those of operations under way.
It may run at any time next to everything else, and nothing waits for it.

--dry-run lists what would go, with sizes, and removes nothing.
--min-age overrides IPFS_GC_MIN_AGE. With 0s only operations under way protect
what is not pinned: an import that is to be pinned later is lost.

A pin that is not whole here ends it before anything is removed. So does a store
that other repos have written to, since this one does not know their pins: --adopt
makes the store this repo's alone, whose pins decide from then on.

  $ ipfs-aws repo gc --dry-run
  $ ipfs-aws repo gc --min-age 24h
`
	c.Options = append(c.Options,
		cmds.BoolOption(dryRunOption, "n", "List what would be removed, and remove nothing."),
		cmds.StringOption(minAgeOption, "Remove only what no one has touched for so long. Default: $IPFS_GC_MIN_AGE, or 1h."),
		cmds.BoolOption(adoptOption, "From now on the pins of this repo alone decide what stays in its store, whoever has written there."))
	c.Type = Event{}
	c.Run = repoGC
	c.Encoders = cmds.EncoderMap{cmds.Text: cmds.MakeTypedEncoder(encodeEvent)}
}

func repoGC(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
	n, s, err := nodeOf(env)
	if err != nil {
		return err
	}
	silent, _ := req.Options["silent"].(bool)
	quiet, _ := req.Options["quiet"].(bool)
	stream, _ := req.Options["stream-errors"].(bool)
	o := gc.Options{Age: -1}
	o.DryRun, _ = req.Options[dryRunOption].(bool)
	if v, _ := req.Options[minAgeOption].(string); v != "" {
		if o.Age, err = time.ParseDuration(v); err != nil || o.Age < 0 {
			return cmds.Errorf(cmds.ErrClient, "--%s=%q is not a duration: use one such as 30m or 24h", minAgeOption, v)
		}
	}
	if !silent {
		o.Removed = func(c cid.Cid, size int) error {
			e := &Event{Key: c}
			if o.DryRun {
				e.Size = int64(size)
			}
			return res.Emit(e)
		}
	}
	var failed []error
	o.Failed = func(err error) error {
		if stream {
			return res.Emit(&Event{Error: err.Error()})
		}
		failed = append(failed, err)
		return nil
	}
	var r gc.Result
	// A dry run says what --adopt would lead to, and adopts nothing.
	adopt, _ := req.Options[adoptOption].(bool)
	switch {
	case adopt && !o.DryRun:
		err = s.holders.Adopt(req.Context)
	case !adopt:
		err = s.holders.Check(req.Context)
	}
	if err == nil {
		r, err = collect(req.Context, n, s, o)
	}
	if err != nil && stream && req.Context.Err() == nil {
		if err := res.Emit(&Event{Error: err.Error()}); err != nil {
			return err
		}
		return errors.New("encountered errors during gc run")
	}
	if err != nil {
		return errors.Join(append(failed, err)...)
	}
	note := ""
	if r.Young != nil {
		note = r.Young.Error()
	}
	switch {
	case o.DryRun:
		return res.Emit(&Event{Summary: &Summary{r.Removed, r.Bytes, r.Kept}, Note: note})
	case note != "" && !silent && !quiet && !stream: // the sidecar, which wants keys only, streams
		return res.Emit(&Event{Note: note})
	}
	return nil
}

// collect collects, and then has the datastore do the same for itself.
func collect(ctx context.Context, n *core.IpfsNode, s *state, o gc.Options) (gc.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	r, err := s.guard.Collect(ctx, store(n, s), o)
	if o.DryRun || r.Young != nil || err != nil && !errors.Is(err, gc.ErrIncomplete) {
		return r, err
	}
	if d, ok := n.Repo.Datastore().(datastore.GCDatastore); ok {
		if derr := d.CollectGarbage(ctx); derr != nil {
			return r, errors.Join(err, fmt.Errorf("collect the garbage of the datastore: %w", derr))
		}
	}
	return r, err
}

func encodeEvent(req *cmds.Request, w io.Writer, e *Event) error {
	silent, _ := req.Options["silent"].(bool)
	quiet, _ := req.Options["quiet"].(bool)
	dry, _ := req.Options[dryRunOption].(bool)
	var err error
	switch {
	case silent:
	case e.Error != "":
		_, err = fmt.Fprintf(w, "Error: %s\n", e.Error)
	case e.Summary != nil && quiet:
	case e.Summary != nil:
		_, err = fmt.Fprintf(w, "would remove %d blocks, %d bytes; %d blocks stay\n", e.Summary.Blocks, e.Summary.Bytes, e.Summary.Kept)
		if err == nil && e.Note != "" {
			_, err = fmt.Fprintln(w, e.Note)
		}
	case e.Note != "":
		_, err = fmt.Fprintln(w, e.Note)
	case quiet:
		_, err = fmt.Fprintln(w, e.Key)
	case dry:
		_, err = fmt.Fprintf(w, "would remove %s %d\n", e.Key, e.Size)
	default:
		_, err = fmt.Fprintf(w, "removed %s\n", e.Key)
	}
	return err
}
