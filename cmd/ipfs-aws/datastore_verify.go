package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	cmds "github.com/ipfs/go-ipfs-cmds"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
)

const (
	sampleOption  = "sample"
	restartOption = "restart"
)

// verifying keeps two from writing one note.
var verifying sync.Mutex

var datastoreVerifyCmd = &cmds.Command{
	Helptext: cmds.HelpText{
		Tagline: "Read and hash blocks where they are in the bucket, and report what is damaged or missing.",
		ShortDescription: `
Two GETs per pack and one per loose object, past the cache; in the region of
the bucket the bytes are free. --sample 0.1 looks at a tenth, chosen at
random. Reads and writes go on meanwhile. Broken off, it goes on behind the
last pack or block it has seen when it is called again with the same --sample;
--restart starts over.

What is found is printed, one line each; "live" means that something needs it.
To repair a damaged block, put it again or restore its object. Objects that could
not be read are listed apart: they may be fine. Damage is read twice before it is
reported. The exit code is 1 if a block in use is damaged or could not be read.

  $ ipfs-aws datastore verify --sample 0.1
`,
	},
	Options: []cmds.Option{
		cmds.FloatOption(sampleOption, "Share of packs and single blocks to look at, more than 0, up to 1.").WithDefault(1.0),
		cmds.BoolOption(restartOption, "Do not go on with one that was broken off."),
		jsonFlag(),
	},
	Run: func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		sample, _ := req.Options[sampleOption].(float64)
		if !(sample > 0 && sample <= 1) {
			return fmt.Errorf("datastore verify: --%s %v: use a share of more than 0, up to 1", sampleOption, sample)
		}
		p, n, err := packedStore(env, "`ipfs-aws repo verify` reads and hashes every block")
		if err != nil {
			return fmt.Errorf("datastore verify: %w", err)
		}
		if !verifying.TryLock() {
			return errors.New("datastore verify: one is at work already")
		}
		defer verifying.Unlock()
		note, err := openVerifyNote(filepath.Join(n.Repo.Path(), "s3ds", "verify.json"))
		if err != nil {
			return fmt.Errorf("datastore verify: %w", err)
		}
		if again, _ := req.Options[restartOption].(bool); again || note.Sample != sample {
			note.verifyNote = verifyNote{Sample: sample}
		}
		r := &reporter{res: res}
		from := note.After
		_, err = p.Verify(req.Context, s3ds.VerifyOptions{
			Sample: sample, After: from, Progress: r.progress,
			Done: note.done,
			Found: func(f s3ds.Finding) {
				if f.Live {
					note.Findings++
				}
				if f.Unasked {
					note.Unasked++
				}
				r.finding(f)
			},
		})
		if err != nil {
			return fmt.Errorf("datastore %w", errors.Join(interruptedAs(req, "verify", err), note.save()))
		}
		if err := errors.Join(note.err, note.remove()); err != nil {
			return fmt.Errorf("datastore verify: %w", err)
		}
		text := fmt.Sprintf("verified %d blocks in %d packs and %d loose objects: %d that somebody would miss are damaged or missing",
			r.p.Blocks, r.p.Packs, r.p.Objects, note.Findings)
		if from != "" {
			if !strings.HasPrefix(from, "block ") {
				from = "pack " + from
			}
			text += " (behind " + from + ", where an earlier call was broken off)"
		}
		if note.Unasked > 0 {
			text += fmt.Sprintf("; %d packs or objects could not be read", note.Unasked)
		}
		if err := r.result(text, note.Findings); err != nil {
			return err
		}
		if note.Findings == 0 && note.Unasked > 0 {
			return fmt.Errorf("datastore verify: %d packs or objects could not be read, which does not mean that they are damaged: "+
				"look at the errors above, and verify again when the bucket answers", note.Unasked)
		}
		if note.Findings > 0 {
			return fmt.Errorf("datastore verify: %d blocks or packs are damaged or missing: put these blocks again, or restore the objects named above", note.Findings)
		}
		return nil
	},
	Type:     datastoreEvent{},
	Encoders: eventEncoders,
	PostRun:  cmds.PostRunMap{cmds.CLI: showProgress},
}

// verifyNote is how far a verify has come, for the case that it is broken off.
type verifyNote struct {
	Sample   float64
	After    string // name of the last pack that was looked at
	Findings int64  // so far, of what is live
	Unasked  int64  // so far, what could not be read
}

// verifyFile keeps a note in a file of the repo. It is written once a second at
// most, without a sync: what a crash takes is looked at again.
type verifyFile struct {
	verifyNote
	path  string
	saved time.Time
	err   error // of the first write that failed
}

func openVerifyNote(path string) (*verifyFile, error) {
	f := &verifyFile{path: path}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return f, nil
	case err != nil:
		return nil, fmt.Errorf("read how far the last one came: %w", err)
	}
	if json.Unmarshal(b, &f.verifyNote) != nil {
		f.verifyNote = verifyNote{} // torn by a crash: begin anew
	}
	return f, nil
}

func (f *verifyFile) done(after string) {
	f.After = after
	if time.Since(f.saved) < time.Second {
		return
	}
	f.saved = time.Now()
	if err := f.save(); err != nil && f.err == nil {
		f.err = err
	}
}

func (f *verifyFile) save() error {
	b, err := json.Marshal(f.verifyNote)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(f.path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(f.path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("note how far it came: %w", err)
	}
	return nil
}

func (f *verifyFile) remove() error {
	if err := os.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
