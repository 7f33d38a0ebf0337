package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	humanize "github.com/dustin/go-humanize"
	cmds "github.com/ipfs/go-ipfs-cmds"

	"github.com/ipfs-aws/ipfs-aws/datastore/migrate"
)

// migrateEvent is one of what `datastore migrate` answers. One field is set.
type migrateEvent struct {
	Progress *migrateProgress `json:",omitempty"`
	Finding  *migrateFinding  `json:",omitempty"`
	Estimate *migrateEstimate `json:",omitempty"`
	Note     string           `json:",omitempty"` // for people
	Result   *migrateResult   `json:",omitempty"`
}

// migrateProgress tells how far it is. Sizes are bytes, requests and dollars are those of this call.
type migrateProgress struct {
	Stage                   string
	Blocks, Bytes           int64
	TotalBlocks, TotalBytes int64 `json:",omitempty"`
	RunBlocks, RunBytes     int64 // by this call
	Damaged                 int64
	BytesPerSecond          float64 `json:",omitempty"`
	SecondsLeft             float64 `json:",omitempty"`
	Requests                uint64
	Dollars                 float64
}

type migrateFinding struct {
	Multihash string `json:",omitempty"` // hexadecimal
	Error     string
}

type migrateResult struct {
	Text                string
	Blocks, Bytes       int64 // in the source
	Copied, CopiedBytes int64 // by this call
	Removed             int64
	Damaged             int64
	Pins                int `json:",omitempty"` // written down or made
	Requests            uint64
	Dollars             float64
	Seconds             float64
}

// amount says what was done of how much.
func (p *migrateProgress) amount() string {
	s := fmt.Sprintf("%s: %d", p.Stage, p.Blocks)
	if p.TotalBlocks > 0 {
		s += fmt.Sprintf(" of %d", p.TotalBlocks)
	}
	return s + " blocks, " + humanize.IBytes(uint64(max(p.Bytes, 0)))
}

func (p *migrateProgress) String() string {
	s := p.amount()
	if p.BytesPerSecond > 0 {
		s += fmt.Sprintf(", %s/s", humanize.IBytes(uint64(p.BytesPerSecond)))
	}
	if p.SecondsLeft > 0 {
		s += fmt.Sprintf(", %s left", time.Duration(p.SecondsLeft*float64(time.Second)).Round(time.Second))
	}
	if p.Damaged > 0 {
		s += fmt.Sprintf(", %d damaged", p.Damaged)
	}
	return s + fmt.Sprintf(", %d requests, %s", p.Requests, dollars(p.Dollars))
}

// dollars shows what a few requests cost, too.
func dollars(usd float64) string {
	if usd > 0 && usd < 0.01 {
		return fmt.Sprintf("$%.6f", usd)
	}
	return fmt.Sprintf("$%.2f", usd)
}

func (e *migrateEvent) String() string {
	switch {
	case e.Progress != nil:
		return e.Progress.String()
	case e.Finding != nil && e.Finding.Multihash != "":
		return "damaged: block " + e.Finding.Multihash + ": " + e.Finding.Error
	case e.Finding != nil:
		return "damaged: " + e.Finding.Error
	case e.Estimate != nil:
		return e.Estimate.String()
	case e.Result != nil:
		return e.Result.Text
	}
	return e.Note
}

// migrateReporter passes on how far a migration has come. Safe for concurrent use.
type migrateReporter struct {
	res cmds.ResponseEmitter

	mu    sync.Mutex
	last  time.Time
	stage string
	err   error // of the first answer that did not go out
}

func (r *migrateReporter) progress(p migrate.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.Stage == r.stage && time.Since(r.last) < emitEvery {
		return
	}
	r.last, r.stage = time.Now(), p.Stage
	e := &migrateProgress{
		Stage: p.Stage, Blocks: p.Blocks, Bytes: p.Bytes, TotalBlocks: p.TotalBlocks, TotalBytes: p.TotalBytes,
		RunBlocks: p.RunBlocks, RunBytes: p.RunBytes, Damaged: p.Damaged, Requests: p.Cost.Requests, Dollars: p.Cost.USD,
	}
	if p.Stage == migrate.Copying && p.Elapsed > time.Second && p.RunBytes > 0 {
		e.BytesPerSecond = float64(p.RunBytes) / p.Elapsed.Seconds()
		e.SecondsLeft = float64(max(p.TotalBytes-p.Bytes, 0)) / e.BytesPerSecond
	}
	r.emit(&migrateEvent{Progress: e})
}

// counted is progress of something that has a number only.
func (r *migrateReporter) counted(stage string, n int64) {
	r.progress(migrate.Progress{Stage: stage, Blocks: n})
}

func (r *migrateReporter) finding(f migrate.Finding) {
	r.say(&migrateEvent{Finding: &migrateFinding{f.Hash.HexString(), f.Err.Error()}})
}

func (r *migrateReporter) note(format string, args ...any) {
	r.say(&migrateEvent{Note: fmt.Sprintf(format, args...)})
}

func (r *migrateReporter) say(e *migrateEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.emit(e)
}

// result ends what is told.
func (r *migrateReporter) result(rep migrate.Report, pins int, format string, args ...any) error {
	r.say(&migrateEvent{Result: &migrateResult{
		Text: fmt.Sprintf(format, args...), Blocks: rep.Blocks, Bytes: rep.Bytes, Copied: rep.Copied, CopiedBytes: rep.CopiedBytes,
		Removed: rep.Removed, Damaged: rep.Damaged, Pins: pins, Requests: rep.Cost.Requests, Dollars: rep.Cost.USD, Seconds: rep.Elapsed.Seconds(),
	}})
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// emit holds r.mu.
func (r *migrateReporter) emit(e *migrateEvent) {
	if err := r.res.Emit(e); err != nil && r.err == nil {
		r.err = err
	}
}

var migrateEncoders = cmds.EncoderMap{
	cmds.Text: cmds.MakeTypedEncoder(func(_ *cmds.Request, w io.Writer, e *migrateEvent) error {
		_, err := fmt.Fprintln(w, e)
		return err
	}),
}

// showMigration prints the answers, as showProgress does.
func showMigration(res cmds.Response, re cmds.ResponseEmitter) error {
	return showEvents(res, func(e *migrateEvent, _ time.Duration) (string, bool) { return e.String(), e.Progress != nil })
}
