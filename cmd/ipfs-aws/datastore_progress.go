package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	humanize "github.com/dustin/go-humanize"
	cmds "github.com/ipfs/go-ipfs-cmds"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
)

// How often a long command says how far it has come: through the RPC, to a
// terminal, and as lines of a log.
const (
	emitEvery = 250 * time.Millisecond
	lineEvery = 5 * time.Second
)

// datastoreEvent is one of what a long command answers: how far it is, what it
// found, and in the end a result. One field is set.
type datastoreEvent struct {
	Progress *progressEvent `json:",omitempty"`
	Finding  *findingEvent  `json:",omitempty"`
	Result   *resultEvent   `json:",omitempty"`
}

// progressEvent counts what this call has done so far.
type progressEvent struct {
	Doing         string
	Packs         int64
	TotalPacks    int64 `json:",omitempty"` // if it is known, as the other totals
	Objects       int64 // loose ones
	TotalObjects  int64 `json:",omitempty"`
	Blocks, Bytes int64
	TotalBytes    int64 `json:",omitempty"`
}

// findingEvent is something that is wrong in the bucket or in the journal.
type findingEvent struct {
	Object    string // or segment of the journal
	Offset    int64  // bytes
	Multihash string `json:",omitempty"` // hexadecimal; none if it is not about one block
	Live      bool   // somebody misses it
	Error     string
}

type resultEvent struct {
	Text     string
	Findings int64 // of live blocks, those of earlier calls that were broken off included
	progressEvent
}

func (p progressEvent) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d", p.Doing, p.Packs)
	if p.TotalPacks > 0 {
		fmt.Fprintf(&b, " of %d", p.TotalPacks)
	}
	fmt.Fprintf(&b, " packs, %d loose objects, %d blocks, %s", p.Objects, p.Blocks, humanize.IBytes(uint64(max(p.Bytes, 0))))
	return b.String()
}

// pace says how fast it goes, and how long it will still take if it goes on like
// this; nothing as long as that is not known.
func (p progressEvent) pace(elapsed time.Duration) string {
	if elapsed < time.Second || p.Bytes <= 0 {
		return ""
	}
	text := fmt.Sprintf(", %s/s", humanize.IBytes(uint64(float64(p.Bytes)/elapsed.Seconds())))
	share := 0.0
	switch {
	case p.TotalBytes > 0:
		share = float64(p.Bytes) / float64(p.TotalBytes)
	case p.TotalObjects > 0:
		share = float64(p.Objects) / float64(p.TotalObjects)
	}
	if share <= 0 || share >= 1 {
		return text
	}
	left := time.Duration(float64(elapsed) * (1 - share) / share)
	return text + fmt.Sprintf(", %.0f%%, %s left", 100*share, left.Round(time.Second))
}

func (f findingEvent) String() string {
	state := "dead"
	if f.Live {
		state = "live"
	}
	what := "the object"
	if f.Multihash != "" {
		what = "block " + f.Multihash
	}
	return fmt.Sprintf("%s at %d: %s (%s): %s", f.Object, f.Offset, what, state, f.Error)
}

func (e *datastoreEvent) String() string {
	switch {
	case e.Progress != nil:
		return e.Progress.String()
	case e.Finding != nil:
		return e.Finding.String()
	case e.Result != nil:
		return e.Result.Text
	}
	return ""
}

// reporter passes on how far a long command has come. Safe for concurrent use.
type reporter struct {
	res cmds.ResponseEmitter

	mu   sync.Mutex
	last time.Time
	p    progressEvent
	err  error // of the first answer that did not go out
}

func (r *reporter) progress(p s3ds.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.p = progressEvent{p.Doing, p.Packs, p.TotalPacks, p.Objects, p.TotalObjects, p.Blocks, p.Bytes, p.TotalBytes}
	if time.Since(r.last) < emitEvery {
		return
	}
	r.last = time.Now()
	now := r.p
	r.emit(&datastoreEvent{Progress: &now})
}

func (r *reporter) finding(f s3ds.Finding) {
	e := &findingEvent{Object: f.Object, Offset: f.Offset, Live: f.Live, Error: f.Err.Error()}
	if f.Multihash != nil {
		e.Multihash = f.Multihash.HexString()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.emit(&datastoreEvent{Finding: e})
}

func (r *reporter) result(text string, findings int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.emit(&datastoreEvent{Result: &resultEvent{text, findings, r.p}})
	return r.err
}

// emit holds r.mu. Whoever does not listen any more has ended the request, too.
func (r *reporter) emit(e *datastoreEvent) {
	if err := r.res.Emit(e); err != nil && r.err == nil {
		r.err = err
	}
}

// interruptedAs says what to do about a long command that was broken off; other
// errors are as they are. Either begins with the name of the command.
func interruptedAs(req *cmds.Request, name string, err error) error {
	if req.Context.Err() != nil {
		return fmt.Errorf("%s: broken off; what is done is done: call it again to go on", name)
	}
	text := strings.TrimPrefix(err.Error(), "s3ds: ")
	if strings.HasPrefix(text, name+": ") {
		return errors.New(text)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// eventEncoders answer a request that wants text from the RPC. The command line
// has showProgress, and asks for them only to learn that there is a text.
var eventEncoders = cmds.EncoderMap{
	cmds.Text: cmds.MakeTypedEncoder(func(_ *cmds.Request, w io.Writer, e *datastoreEvent) error {
		_, err := fmt.Fprintln(w, e)
		return err
	}),
}

// showProgress prints the answers of a long command.
func showProgress(res cmds.Response, re cmds.ResponseEmitter) error {
	return showEvents(res, func(e *datastoreEvent, elapsed time.Duration) (string, bool) {
		if e.Progress != nil {
			return e.Progress.String() + e.Progress.pace(elapsed), true
		}
		return e.String(), false
	})
}

// showEvents prints answers: progress on standard error, in place on a terminal and as a line every few seconds elsewhere; all others, as
// findings and the result, on standard output. With JSON, all of them go there, a line each. show is the text of an answer, and whether it is progress.
func showEvents[E any](res cmds.Response, show func(e *E, elapsed time.Duration) (text string, progress bool)) error {
	if cmds.GetEncoding(res.Request(), cmds.Text) == cmds.JSON {
		return eachEvent(res, func(e *E) error {
			b, err := json.Marshal(e)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(os.Stdout, "%s\n", b)
			return err
		})
	}
	terminal := false
	if fi, err := os.Stderr.Stat(); err == nil {
		terminal = fi.Mode()&os.ModeCharDevice != 0
	}
	var last time.Time
	begun := time.Now()
	const clear = "\r\x1b[K"
	err := eachEvent(res, func(e *E) error {
		text, progress := show(e, time.Since(begun))
		switch {
		case progress && terminal:
			fmt.Fprint(os.Stderr, clear, text)
		case progress && time.Since(last) >= lineEvery:
			last = time.Now()
			fmt.Fprintln(os.Stderr, text)
		case !progress:
			if terminal {
				fmt.Fprint(os.Stderr, clear)
			}
			fmt.Fprintln(os.Stdout, text)
		}
		return nil
	})
	if err != nil && terminal {
		fmt.Fprintln(os.Stderr)
	}
	return err
}

func eachEvent[E any](res cmds.Response, do func(*E) error) error {
	for {
		v, err := res.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		e, ok := v.(*E)
		if !ok {
			return fmt.Errorf("unexpected answer: a %T", v)
		}
		if err := do(e); err != nil {
			return err
		}
	}
}
