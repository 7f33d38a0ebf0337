package s3ds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/chain"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
)

// Objects under the prefix that say who may write there.
const (
	privateName = ".ipfs-aws/"               // what begins with it is ours
	chainName   = privateName + "chain"      // root of the chain
	ownerName   = ".ipfs-aws-owner"          // of former releases; now it only keeps them out
	afterChain  = privateName + "\U0010FFFF" // sorts behind the records of the chain, and before the packs
)

const (
	// defaultLease is how long a proof of ownership is good for an acknowledgement. While something is written the
	// bucket is asked once in two thirds of it, 20 s: 130,000 GETs in a month of writing day and night, $0.05. A
	// process that takes over from one that may be alive waits for as long, and graceShare more, before it does
	// anything.
	defaultLease = 30 * time.Second
	// graceShare of the lease makes up for clocks that run at different speeds, and for a process that is slow between its look at the
	// clock and its answer.
	graceShare = 4
	// patienceShare of the lease is how long a write waits for an answer before the owner counts as unknown: 5 s of 30.
	patienceShare = 6

	// maxRetire is how many names one record holds at most: 10,000 of 60 bytes are 600 KB.
	maxRetire = 10_000
	// snapshotAfter is how many records may lie behind the newest snapshot: 64 are read in 4 turns of 16 at 25 ms.
	snapshotAfter = 64
)

// fence is the right of this process to write under the prefix: the chain that it owns, and what the chain says about deleted objects.
//
// A write is acknowledged only within lease of a proof of ownership, by the clocks of this machine; a process that takes over from
// one that may be alive waits until that time is over. Nothing is deleted in the bucket without a record before: an owner that was
// replaced finds out there. A record names what is deleted, so that later owners do not rely on it: the request may arrive late.
type fence struct {
	b        bucket.Bucket
	c        *chain.Chain
	lease    time.Duration
	tolerant bool // writes are acknowledged while the bucket cannot be asked: they are in the journal
	say      func(string)
	life     context.Context

	found  chain.State  // before the takeover
	newest chain.Record // of these; zero if there was none
	forced bool         // taken over from a process that may be alive

	mu      sync.Mutex
	asking  *asking
	retry   time.Time // when the next question is worth while after a failure
	unknown error     // why it is not known whether this process is still the owner
	since   time.Time // of unknown
	failed  time.Time // when it was found last that the bucket cannot be asked
	noting  bool      // the index is true from here on
	said    bool      // that it was replaced

	state     sync.RWMutex // read-locked by appends, locked for snapshots
	names     sync.Mutex   // guards what follows
	retired   map[string]struct{}
	gone      map[string]struct{} // of retired: deleted, and the chain does not say so yet
	appended  int                 // records since the snapshot
	uncertain bool                // an append has failed: it is not known what the chain holds
	suspect   map[string]struct{} // of retired: a deletion of it may arrive late
	young     map[string]struct{} // of retired before the takeover: likewise

	broken broken
}

// broken switches parts off, so that tests can show what they are for.
type broken struct {
	off      bool // nobody is asked, and nothing is written down
	noWait   bool // a takeover by force does not wait
	noRecord bool // what is deleted is not written down
	keepDead bool // what an index has deleted stays deleted after a takeover
}

// asking is one question, shared by all who wait for its answer.
type asking struct {
	done chan struct{}
	err  error
}

// fenceOptions are what openFence needs to know.
type fenceOptions struct {
	prefix   string // of all names, with its slash
	node     *node
	host     string
	takeOver bool
	lease    time.Duration
	tolerant bool
	clock    *chain.Clock
	say      func(string)
	life     context.Context // of questions in the background
	change   func(*fence)    // for tests
}

// openFence makes this process the owner of the prefix. An error that matches ErrOwned names the node that is in the way.
func openFence(ctx context.Context, b bucket.Bucket, o fenceOptions) (*fence, error) {
	f := &fence{b: b, lease: o.lease, tolerant: o.tolerant, say: o.say, life: o.life, retired: map[string]struct{}{}, gone: map[string]struct{}{},
		suspect: map[string]struct{}{}, young: map[string]struct{}{}}
	if f.lease == 0 {
		f.lease = defaultLease
	}
	if o.change != nil {
		o.change(f)
	}
	former, err := readOwner(ctx, b, o.prefix+ownerName)
	if err != nil {
		return nil, err
	}
	session := newSession()
	approve := func(newest chain.Record, exists bool) error {
		f.newest = newest
		force, err := o.judge(newest, exists, former)
		if err != nil && !f.broken.off {
			return err
		}
		f.forced = force
		if err := keepFormerOut(ctx, b, o.prefix+ownerName, o.node.id, former); err != nil {
			return err
		}
		return o.node.began(newest.Session, session)
	}
	f.c, err = chain.Open(ctx, b, o.prefix+chainName, chain.Options{Node: o.node.id, Host: o.host, Session: session, Approve: approve, Clock: o.clock})
	if err != nil {
		var owned *OwnedError
		if errors.As(err, &owned) {
			return nil, owned
		}
		return nil, err
	}
	f.found = f.c.State()
	if n := len(f.found.Records); n > 0 {
		f.newest = f.found.Records[n-1] // also of those that came while it took over
	}
	if err := f.replay(); err != nil {
		f.c.Abandon()
		return nil, err
	}
	if f.forced && !f.broken.noWait && !f.broken.off {
		wait := f.lease + f.lease/graceShare
		f.tell("taken over from node %q on host %q, which may still run: waiting for %s, after which it acknowledges nothing more",
			f.newest.Node, f.newest.Host, wait.Round(time.Second))
		if !sleep(ctx, wait) {
			f.c.Abandon()
			return nil, context.Cause(ctx)
		}
	}
	return f, nil
}

func (f *fence) tell(format string, args ...any) {
	if f.say != nil {
		f.say(fmt.Sprintf(format, args...))
	}
}

// judge decides whether this process may take over from the writer of the newest record, and whether that may still be alive.
func (o fenceOptions) judge(newest chain.Record, exists bool, former *ownerRecord) (force bool, err error) {
	if former.alive() && former.ID != o.node.id {
		return false, former.owned(false)
	}
	switch {
	case !exists && (former == nil || former.ID == o.node.id || former.released()):
		return false, nil
	case exists && (newest.Kind == chain.Closed || newest.Node == o.node.id && o.node.was(newest.Session)):
		return false, nil
	case o.takeOver:
		return exists, nil
	case !exists:
		return false, former.owned(true)
	}
	return false, &OwnedError{Node: newest.Node, Host: newest.Host, Epoch: newest.Epoch, Seen: newest.At, Copy: newest.Node == o.node.id, May: true}
}

// What begins a line of a part of a record, and of a snapshot. The name of an object follows, below the prefix, in double quotes as in Go.
const (
	retireLine = "retire" // the object is being deleted: nothing may rely on it
	goneLine   = "gone"   // it was deleted; an object of that name is another one
)

func line(what, name string) string { return what + " " + strconv.Quote(name) + "\n" }

// lateAge is how old a record must be before nothing of the request that it announced can arrive any more: S3 refuses
// requests whose signatures are older than 15 minutes, from clocks that are wrong by 15 minutes at most.
const lateAge = 30 * time.Minute

// replay fills in what the chain says about deleted objects.
func (f *fence) replay() error {
	var written time.Time // by the clock of the server; of a snapshot, at the latest
	now := f.newest.Clock
	read := func(part []byte) error {
		for line := range strings.Lines(string(part)) {
			line = strings.TrimSuffix(line, "\n")
			what, quoted, _ := strings.Cut(line, " ")
			name, err := strconv.Unquote(quoted)
			switch {
			case err == nil && what == retireLine:
				f.retired[name] = struct{}{}
				delete(f.young, name)
				if written.IsZero() || now.IsZero() || now.Sub(written) < lateAge {
					f.young[name] = struct{}{}
				}
			case err == nil && what == goneLine:
				delete(f.retired, name)
				delete(f.young, name)
			default:
				return fmt.Errorf("the chain of owners holds a line that this release does not know, %.80q: a newer release wrote it, use that one", line)
			}
		}
		return nil
	}
	if len(f.found.Records) > 0 {
		written = f.found.Records[0].Modified
	}
	if err := read(f.found.Snapshot); err != nil {
		return err
	}
	for _, r := range f.found.Records {
		written = r.Modified
		for _, part := range r.Parts {
			if err := read(part); err != nil {
				return err
			}
		}
	}
	f.appended = len(f.found.Records)
	return nil
}

// position is the newest record of this process: the index is true up to it when everything that it knows of now is in the index.
func (f *fence) position() index.Note { return index.Note{Session: f.c.Session(), Seq: f.c.Next() - 1} }

// note implements index.Options.Note.
func (f *fence) note() (index.Note, bool) {
	f.mu.Lock()
	on := f.noting
	f.mu.Unlock()
	if !on || errors.Is(f.c.Err(), chain.ErrFenced) {
		return index.Note{}, false
	}
	return f.position(), true
}

// trusted says that the index agrees with the bucket from now on.
func (f *fence) trusted() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noting = true
}

// lost returns the *ReplacedError if it is known that another process has taken over. It asks nothing.
func (f *fence) lost() error { return f.explain(f.c.Err()) }

// explain turns an error of the chain into one of ours.
func (f *fence) explain(err error) error {
	var by *chain.FencedError
	switch {
	case errors.As(err, &by):
		e := &ReplacedError{Node: by.By.Node, Host: by.By.Host, Epoch: by.By.Epoch, At: by.By.At}
		f.mu.Lock()
		first := !f.said
		f.said = true
		f.mu.Unlock()
		if first {
			f.tell("%v", e)
		}
		return e
	case errors.Is(err, chain.ErrClosed):
		return ErrClosed
	}
	return err
}

// hold returns nil if a write may be acknowledged now. It asks nothing while the last proof is good; from two thirds
// of the lease on it asks in the background, and after its end it waits for the answer. *ReplacedError, from then on:
// another process has taken over. Any other error says that the bucket could not be asked. That is no error for
// writes that are safe in the journal: the owner is unknown then, and the bucket is asked until it answers.
func (f *fence) hold(ctx context.Context) error {
	_, err := f.prove(ctx, f.tolerant)
	return err
}

// certain is hold for what must not happen while the owner is unknown.
func (f *fence) certain(ctx context.Context) error {
	_, err := f.prove(ctx, false)
	return err
}

// prove is hold. It also reports whether the proof is good: it is not if the owner is unknown, and that is tolerated.
func (f *fence) prove(ctx context.Context, tolerant bool) (known bool, err error) {
	if f.broken.off {
		return true, nil
	}
	if err := f.lost(); err != nil {
		return false, err
	}
	age := f.c.Age()
	if age <= f.lease*2/3 {
		return true, nil
	}
	q := f.ask(func() bool { return age > f.lease && !(tolerant && f.cannot()) })
	if age <= f.lease {
		return true, nil
	}
	f.mu.Lock()
	cannot := f.cannot()
	f.mu.Unlock()
	if q == nil || tolerant && cannot {
		return false, nil
	}
	var patience <-chan time.Time
	if tolerant {
		t := time.NewTimer(f.lease / patienceShare)
		defer t.Stop()
		patience = t.C
	}
	select {
	case <-q.done:
	case <-patience:
		f.cannotAsk(fmt.Errorf("the bucket has not answered for %s", f.lease/patienceShare))
		return false, nil
	case <-ctx.Done():
		return false, fmt.Errorf("confirm the ownership of the prefix: %w", context.Cause(ctx))
	}
	if q.err == nil || errors.Is(q.err, ErrReplaced) || errors.Is(q.err, ErrClosed) {
		return q.err == nil, q.err
	}
	if tolerant && passes(q.err) {
		return false, nil
	}
	return false, fmt.Errorf("confirm the ownership of the prefix: %w", q.err)
}

// passes reports whether an error says that the bucket could not be asked, which is no answer.
func passes(err error) bool {
	return errors.Is(err, bucket.ErrUnreachable) || errors.Is(err, bucket.ErrServer) || errors.Is(err, bucket.ErrThrottled)
}

// ask asks the bucket, and returns the question that is under way: nil if one has failed a moment ago and it is not urgent.
func (f *fence) ask(urgent func() bool) *asking {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asking == nil && (!time.Now().Before(f.retry) || urgent()) {
		f.asking = &asking{done: make(chan struct{})}
		go f.answer(f.asking)
	}
	return f.asking
}

// cannot reports whether the bucket could not be asked a moment ago. A process that slept since then has to ask again. f.mu is held.
func (f *fence) cannot() bool {
	return f.unknown != nil && time.Since(f.failed) < f.lease && time.Now().Round(0).Sub(f.failed.Round(0)) < f.lease
}

func (f *fence) answer(q *asking) {
	err := f.explain(f.c.Confirm(f.life))
	if passes(err) {
		f.cannotAsk(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.unknown = nil
	} else {
		f.retry = time.Now().Add(f.lease / 12)
	}
	q.err, f.asking = err, nil
	close(q.done)
}

func (f *fence) cannotAsk(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unknown == nil {
		f.since = time.Now()
	}
	f.unknown, f.failed = err, time.Now()
}

// look asks in the background if the last proof is older than age.
func (f *fence) look(age time.Duration) {
	if f.c.Age() > age {
		f.ask(func() bool { return false })
	}
}

// append adds lines to the chain.
func (f *fence) append(ctx context.Context, lines string) error {
	if f.broken.off || f.broken.noRecord {
		return nil
	}
	f.state.RLock()
	defer f.state.RUnlock()
	_, err := f.c.Append(ctx, []byte(lines))
	if err != nil {
		f.names.Lock()
		f.uncertain = true
		f.names.Unlock()
		return fmt.Errorf("confirm the ownership of the prefix: %w", f.explain(err))
	}
	f.mu.Lock()
	f.unknown = nil
	f.mu.Unlock()
	f.names.Lock()
	f.appended++
	f.names.Unlock()
	return nil
}

// retire writes down that objects, named below the prefix, are being deleted. It fails if this process is not the owner. deleted has to
// be called with those that were. Cost: 1 PUT for 10,000 names.
func (f *fence) retire(ctx context.Context, names ...string) error {
	for some := range slices.Chunk(names, maxRetire) {
		var lines strings.Builder
		f.names.Lock()
		done := slices.Sorted(maps.Keys(f.gone))
		done = done[:min(len(done), maxRetire)]
		for _, name := range done { // before, for one of them may be retired again
			lines.WriteString(line(goneLine, name))
		}
		for _, name := range some {
			f.retired[name] = struct{}{} // also if it is not known whether the record is there
			delete(f.gone, name)
			lines.WriteString(line(retireLine, name))
		}
		f.names.Unlock()
		if err := f.append(ctx, lines.String()); err != nil {
			return err
		}
		f.forget(done)
	}
	f.shorten(ctx)
	return nil
}

// forget drops names that the chain knows to be gone, but not those that were retired again with the same record.
func (f *fence) forget(done []string) {
	f.names.Lock()
	defer f.names.Unlock()
	for _, name := range done {
		if _, ok := f.gone[name]; ok {
			delete(f.gone, name)
			delete(f.retired, name)
		}
	}
}

// deleted notes the outcome of a deletion. The chain hears of what is gone with the next record. If it failed, it may
// still happen: the names stay retired, whatever becomes of another attempt, until a later owner finds them old
// enough.
func (f *fence) deleted(err error, names ...string) {
	f.names.Lock()
	defer f.names.Unlock()
	for _, name := range names {
		if err != nil {
			f.suspect[name] = struct{}{}
		}
		_, suspect := f.suspect[name]
		_, young := f.young[name]
		if _, ok := f.retired[name]; ok && !suspect && !young {
			f.gone[name] = struct{}{}
		}
	}
}

// doomed reports whether the object of that name was retired, and is not known to be gone: it may be deleted at any
// moment, so nothing new may have this name.
func (f *fence) doomed(name string) bool {
	f.names.Lock()
	defer f.names.Unlock()
	_, gone := f.gone[name]
	_, ok := f.retired[name]
	return ok && !gone
}

// allDoomed returns the names of all objects that were retired and of which it is not known that they are gone.
func (f *fence) allDoomed() map[string]struct{} {
	f.names.Lock()
	defer f.names.Unlock()
	all := maps.Clone(f.retired)
	for name := range f.gone {
		delete(all, name)
	}
	return all
}

// overdue returns the names of objects that were retired so long ago that nothing of their deletion is under way any
// more, and that no owner has found to be gone.
func (f *fence) overdue() []string {
	f.names.Lock()
	defer f.names.Unlock()
	var names []string
	for name := range f.retired {
		if _, young := f.young[name]; !young {
			names = append(names, name)
		}
	}
	return names
}

// reuse makes names usable again whose objects are gone, or that cannot be avoided: the chain is told.
func (f *fence) reuse(ctx context.Context, names ...string) error {
	var lines strings.Builder
	var done []string
	f.names.Lock()
	for _, name := range names {
		if _, ok := f.retired[name]; ok {
			done = append(done, name)
			lines.WriteString(line(goneLine, name))
		}
	}
	f.names.Unlock()
	if len(done) == 0 {
		return nil
	}
	if err := f.append(ctx, lines.String()); err != nil {
		return err
	}
	f.names.Lock()
	for _, name := range done {
		f.gone[name] = struct{}{}
	}
	f.names.Unlock()
	f.forget(done)
	return nil
}

// shorten takes a snapshot of a chain that has become long, and trims it. What goes wrong is tried again after the next record.
func (f *fence) shorten(ctx context.Context) {
	f.names.Lock()
	due := f.appended >= snapshotAfter && !f.uncertain
	f.names.Unlock()
	if !due {
		return
	}
	if err := f.snapshot(ctx); err == nil {
		_ = f.c.Trim(ctx)
	}
}

func (f *fence) snapshot(ctx context.Context) error {
	f.state.Lock() // no append is under way: the chain holds what is known here
	defer f.state.Unlock()
	f.names.Lock()
	if f.uncertain {
		f.names.Unlock()
		return nil
	}
	names := slices.Sorted(maps.Keys(f.retired))
	f.names.Unlock()
	var lines strings.Builder
	for _, name := range names {
		lines.WriteString(line(retireLine, name))
	}
	if err := f.c.Snapshot(ctx, f.c.Next(), strings.NewReader(lines.String())); err != nil {
		return err
	}
	f.names.Lock()
	f.appended = 0
	f.names.Unlock()
	return nil
}

// close ends the ownership: another node may take over without a word from anybody. It reports whether the record of
// that is in the chain. Cost: 1 PUT, and another one if something was deleted.
func (f *fence) close(ctx context.Context) bool {
	f.names.Lock()
	gone := slices.Collect(maps.Keys(f.gone))
	f.names.Unlock()
	_ = f.reuse(ctx, gone[:min(len(gone), maxRetire)]...) // else a later owner finds them gone
	return f.c.Close(ctx) == nil && !errors.Is(f.c.Err(), chain.ErrFenced)
}

// Ownership is what a process knows about its right to write under a prefix, at one moment.
type Ownership struct {
	ID, Host, Session string
	Epoch             uint64        // how often the prefix changed hands
	Proven            time.Duration // how long ago it was proved last
	Replaced          error         // *ReplacedError: another process has taken over
	Unknown           error         // why the bucket cannot be asked; nil if it can, as far as is known
	Since             time.Time     // of Unknown
}

func (f *fence) status(n *node, host string) Ownership {
	o := Ownership{ID: n.id, Host: host, Session: f.c.Session(), Epoch: f.c.Epoch(), Proven: f.c.Age()}
	if err := f.lost(); errors.Is(err, ErrReplaced) {
		o.Replaced = err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.Unknown = f.unknown; o.Unknown != nil {
		o.Since = f.since
	}
	return o
}

// ownerRecord is the content of the owner object. Former releases wrote version 1 and renewed it; version 2 is written once, and sends
// them to the release that knows the chain.
type ownerRecord struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Host    string    `json:"host,omitempty"`
	Session string    `json:"session,omitempty"`
	Epoch   uint64    `json:"epoch,omitempty"`
	Lease   int64     `json:"leaseSeconds,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Chain   string    `json:"chain,omitempty"`

	info bucket.Info
}

const (
	formerOwner = 1
	chainOwner  = 2
	// formerGrace was added to a lease by former releases.
	formerGrace = 5 * time.Second
	// maxOwner bounds what is read of the object, in bytes.
	maxOwner = 64 << 10
)

// readOwner returns what the owner object says, nil if there is none.
func readOwner(ctx context.Context, b bucket.Bucket, key string) (*ownerRecord, error) {
	body, info, err := b.Get(ctx, key, bucket.Range{})
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("find the owner of the prefix: %w", err)
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(io.LimitReader(body, maxOwner))
	if err != nil {
		return nil, fmt.Errorf("find the owner of the prefix: read object %q: %w", key, err)
	}
	r := &ownerRecord{info: info}
	if err := json.Unmarshal(data, r); err != nil || r.Version != formerOwner && r.Version != chainOwner || r.ID == "" || r.Lease < 0 {
		return nil, fmt.Errorf("object %q is not an owner record of version %d or %d: a newer release may have written it, use that one; "+
			"if no node uses this prefix, delete the object", key, formerOwner, chainOwner)
	}
	return r, nil
}

// alive reports whether a node of a former release may have the prefix: its lease has not run out, by the clock of the server.
func (r *ownerRecord) alive() bool {
	if r == nil || r.Version != formerOwner || r.released() {
		return false
	}
	lease := time.Duration(r.Lease)*time.Second + formerGrace
	return r.info.Clock.IsZero() || r.info.Modified.IsZero() || r.info.Clock.Sub(r.info.Modified) <= lease
}

func (r *ownerRecord) released() bool { return r.Version == formerOwner && r.Lease == 0 }

// owned is the error that names the node of an owner object.
func (r *ownerRecord) owned(may bool) *OwnedError {
	e := &OwnedError{Node: r.ID, Host: r.Host, Epoch: r.Epoch, Seen: r.Since, May: may}
	if !may && !r.info.Modified.IsZero() {
		e.Until = r.info.Modified.Add(time.Duration(r.Lease)*time.Second + formerGrace)
	}
	return e
}

// keepFormerOut writes an owner object that former releases refuse, in place of what was read. A node of such a
// release that has the prefix finds out at its next renewal.
func keepFormerOut(ctx context.Context, b bucket.Bucket, key, id string, read *ownerRecord) error {
	if read != nil && read.Version == chainOwner {
		return nil
	}
	cond := bucket.Condition{Absent: true}
	if read != nil {
		cond = bucket.Condition{ETag: read.info.ETag}
	}
	data, err := json.Marshal(ownerRecord{Version: chainOwner, ID: id, Chain: chainName})
	if err != nil {
		return err
	}
	_, err = bucket.PutIf(ctx, b, key, bytes.NewReader(append(data, '\n')), cond)
	if errors.Is(err, bucket.ErrPreconditionFailed) {
		now, rerr := readOwner(ctx, b, key)
		if rerr == nil && now != nil && now.Version == chainOwner {
			return nil // another node of this release, or the answer was lost
		}
		return errors.Join(fmt.Errorf("become the owner of the prefix: object %q was written meanwhile: try again", key), rerr)
	} else if err != nil {
		return fmt.Errorf("become the owner of the prefix: %w", err)
	}
	return nil
}
