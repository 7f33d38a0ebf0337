package chain

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

const (
	// trimAge is how old a record must be, by the clock of the server, before it is removed.
	trimAge = 30 * time.Minute
	// blindFor is how old a proof of ownership may be for the next answer to be one by itself: 5 min + 15 min, by which a clock may be
	// wrong before S3 refuses its signatures, is less than trimAge. An owner that asks once a minute never has to list.
	blindFor = 5 * time.Minute

	// attempts bounds how often one call sends a request again after a failure that may pass. The bucket has tried 5 times each by then.
	attempts = 5
	// firstPause lies before the second attempt, and doubles: 50 ms to 400 ms.
	firstPause = 50 * time.Millisecond
	// races bounds how many others may take over between the reading and the takeover of one Open.
	races = 16
	// readAtOnce is how many records are fetched at the same time: 64 of them take 4 × 25 ms.
	readAtOnce = 16
	// maxSnapshot bounds what Open reads on the word of a server.
	maxSnapshot = 1 << 30
)

// Options of Open.
type Options struct {
	Node    string // whose process this is: a name that lives with its data
	Host    string // where it runs, for people
	Session string // of this process: random, never used twice; "" for a new one

	// Approve, if not nil, is asked before the takeover, with the newest record, and that there is one. An error ends Open, which
	// returns it. If others take over meanwhile it is asked again.
	Approve func(newest Record, exists bool) error

	Clock *Clock // nil for that of this machine
}

// Clock is the time of a machine: one that stands still while the machine sleeps, and one that may be set.
type Clock struct {
	Mono func() time.Duration
	Wall func() time.Time
}

// instant is a moment by both clocks, and by the clock of the server where an answer said it.
type instant struct {
	mono   time.Duration
	wall   time.Time
	server time.Time
}

func (c *Clock) now() instant { return instant{mono: c.Mono(), wall: c.Wall()} }

// since is how much time has passed, by the clock that says most.
func (i instant) since(before instant) time.Duration {
	d := max(i.mono-before.mono, i.wall.Sub(before.wall))
	if !i.server.IsZero() && !before.server.IsZero() {
		d = max(d, i.server.Sub(before.server))
	}
	return d
}

func realClock() *Clock {
	start := time.Now()
	return &Clock{func() time.Duration { return time.Since(start) }, func() time.Time { return time.Now().Round(0) }}
}

// State is what Open has read: a snapshot, and the records from its number on that were there before the takeover.
type State struct {
	Snapshot []byte // nil if there is none
	At       uint64 // the number of the snapshot: records below it are in it
	Records  []Record
}

// Chain is a chain that this process owns, or owned.
type Chain struct {
	b     bucket.Bucket
	root  string
	o     Options
	state State
	epoch uint64
	life  context.Context
	end   context.CancelFunc

	turn chan struct{} // held while requests are under way that depend on the position

	mu      sync.Mutex
	next    uint64  // number of the next record
	proven  instant // before the request was sent whose answer proved the ownership last
	fenced  error
	closed  bool
	queue   []*waiter
	running bool // a goroutine empties queue
}

// waiter is a caller of Append.
type waiter struct {
	data []byte
	done chan struct{}
	seq  uint64
	err  error
}

// Open reads the chain under root, and takes it over. An error of Options.Approve is returned as it is.
func Open(ctx context.Context, b bucket.Bucket, root string, o Options) (*Chain, error) {
	if o.Clock == nil {
		o.Clock = realClock()
	}
	if o.Session == "" {
		o.Session = rand.Text()
	}
	if root == "" || o.Node == "" {
		return nil, fmt.Errorf("open a chain: root %q, node %q: both need names", root, o.Node)
	}
	for range attempts {
		c := &Chain{b: b, root: root, o: o, turn: make(chan struct{}, 1)}
		again, err := c.open(ctx)
		if err != nil {
			return nil, fmt.Errorf("open the chain under %q: %w", root, err)
		}
		if !again {
			c.life, c.end = context.WithCancel(context.Background())
			return c, nil
		}
	}
	return nil, fmt.Errorf("open the chain under %q: it changes faster than it can be read, %d times: try again", root, attempts)
}

// open reports that all of it has to be done again: records were trimmed while it read, or it took too long to be sure that none were.
func (c *Chain) open(ctx context.Context) (again bool, err error) {
	began := c.o.Clock.now()
	newest, exists, again, err := c.readAll(ctx)
	if err != nil || again {
		return again, err
	}
	for range races {
		if c.o.Approve != nil {
			if err := c.o.Approve(newest, exists); err != nil {
				return false, err
			}
		}
		c.epoch = newest.Epoch + 1
		mine, body, err := c.record(Takeover)
		if err != nil {
			return false, err
		}
		theirs, clock, err := c.create(ctx, mine, body)
		if err != nil {
			return false, err
		}
		done := c.o.Clock.now()
		done.server = clock
		if done.since(began) > blindFor {
			return true, nil
		}
		if theirs.Session == "" {
			c.next++
			c.proven = began
			c.proven.server = clock
			return false, nil
		}
		newest, exists = theirs, true
		c.state.Records = append(c.state.Records, theirs)
		c.next++
	}
	return false, fmt.Errorf("others took it over %d times meanwhile: try again", races)
}

// readAll fills in state and next.
func (c *Chain) readAll(ctx context.Context) (newest Record, exists, again bool, err error) {
	c.state, c.next = State{}, 0
	var seqs []uint64
	snap := false
	for info, err := range c.b.List(ctx, c.root+"/", "") {
		if err != nil {
			return newest, false, false, err
		}
		switch seq, isSnap, ok := parseKey(c.root, info.Key); {
		case !ok:
		case isSnap:
			snap, c.state.At = true, max(c.state.At, seq)
		default:
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	// Records below the snapshot are what was not trimmed yet, or were created again in the hole. The newest record is there in any case.
	low, _ := slices.BinarySearch(seqs, c.state.At)
	tail := seqs[low:]
	c.next = c.state.At + uint64(len(tail))
	if len(tail) > 0 && tail[len(tail)-1]+1 != c.next {
		return newest, false, false, fmt.Errorf("%w: records are missing between number %d, up to which a snapshot goes, and %d, the newest: %s",
			ErrDamaged, c.state.At, tail[len(tail)-1], c.advice())
	}
	if len(tail) == 0 && c.state.At > 0 {
		tail = []uint64{c.state.At - 1} // for its epoch
	}
	gone := func(err error) bool { return errors.Is(err, bucket.ErrNotFound) }
	if snap {
		c.state.Snapshot, _, err = readObject(ctx, c.b, snapKey(c.root, c.state.At), maxSnapshot)
		if gone(err) {
			return newest, false, true, nil
		} else if err != nil {
			return newest, false, false, err
		}
	}
	records := make([]Record, len(tail))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(readAtOnce)
	for i, seq := range tail {
		group.Go(func() (err error) {
			records[i], err = read(gctx, c.b, c.root, seq)
			return err
		})
	}
	if err := group.Wait(); gone(err) {
		if len(seqs) == 0 || seqs[len(seqs)-1]+1 < c.state.At {
			return newest, false, false, fmt.Errorf("%w: record %d, the last one before the snapshot, is missing: %s", ErrDamaged, c.state.At-1, c.advice())
		}
		return newest, false, true, nil
	} else if err != nil {
		return newest, false, false, err
	}
	if len(records) == 0 {
		return newest, false, false, nil
	}
	newest = records[len(records)-1]
	if newest.Seq >= c.state.At {
		c.state.Records = records
	}
	return newest, true, false, nil
}

func (c *Chain) advice() string {
	return fmt.Sprintf("stop every node that uses it, delete the objects under %q, and start one", c.root+"/")
}

func (c *Chain) record(kind Kind, parts ...[]byte) (Record, []byte, error) {
	r := Record{Session: c.o.Session, Node: c.o.Node, Host: c.o.Host, Epoch: c.epoch, Kind: kind, Nonce: rand.Text(), At: c.o.Clock.Wall(), Parts: parts}
	body, err := r.encode()
	return r, body, err
}

// create sends a record for the next number until it is known what became of it: created, which leaves theirs zero, or refused because
// theirs is there. clock is the time of the server, if it said so. The caller has the turn.
func (c *Chain) create(ctx context.Context, mine Record, body []byte) (theirs Record, clock time.Time, err error) {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		info, err := bucket.PutIf(ctx, c.b, key(c.root, c.next), bytes.NewReader(body), bucket.Condition{Absent: true})
		if err == nil {
			return Record{}, info.Clock, nil
		}
		if errors.Is(err, bucket.ErrPreconditionFailed) {
			theirs, err = read(ctx, c.b, c.root, c.next)
			if err == nil && theirs.Session == mine.Session && theirs.Nonce == mine.Nonce {
				return Record{}, theirs.Clock, nil // the answer was lost
			}
			if err == nil {
				return theirs, theirs.Clock, nil
			}
		}
		if !passes(err) || attempt == attempts || !sleep(ctx, pause) {
			return Record{}, time.Time{}, err
		}
		pause *= 2
	}
}

// passes reports whether the same request may go well a moment later. A record that was there and is gone was trimmed.
func passes(err error) bool {
	return errors.Is(err, bucket.ErrThrottled) || errors.Is(err, bucket.ErrServer) || errors.Is(err, bucket.ErrUnreachable) || errors.Is(err, bucket.ErrNotFound)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// State returns what Open has read.
func (c *Chain) State() State { return c.state }

// Session returns the session of this process.
func (c *Chain) Session() string { return c.o.Session }

// Epoch returns how often the chain was taken over, up to this process.
func (c *Chain) Epoch() uint64 { return c.epoch }

// Next returns the number of the record that this process would append next.
func (c *Chain) Next() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

// Age is how long ago the ownership was proved last, by the clock of this machine that says most.
func (c *Chain) Age() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.o.Clock.now()
	return now.since(c.proven)
}

// Err returns the *FencedError if it is known that another process has taken over, ErrClosed after Close, and else nil. It asks nothing.
func (c *Chain) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err()
}

func (c *Chain) err() error {
	switch {
	case c.fenced != nil:
		return c.fenced
	case c.closed:
		return ErrClosed
	}
	return nil
}

// Append adds data to the chain, and returns the number of its record: durable, and this process was the owner, when it returns nil.
// Callers that come while a record is under way share the next one. ErrFenced: another process has taken over, and the data is
// not in the chain. After any other error it is not known whether the data is there; a later Append finds out.
func (c *Chain) Append(ctx context.Context, data []byte) (uint64, error) {
	if len(data) > maxGroup {
		return 0, fmt.Errorf("append %d bytes to the chain under %q: at most %d are possible", len(data), c.root, maxGroup)
	}
	w := &waiter{data: data, done: make(chan struct{})}
	c.mu.Lock()
	if err := c.err(); err != nil {
		c.mu.Unlock()
		return 0, err
	}
	c.queue = append(c.queue, w)
	if !c.running {
		c.running = true
		go c.commit()
	}
	c.mu.Unlock()
	select {
	case <-w.done:
		return w.seq, w.err
	case <-ctx.Done():
		return 0, fmt.Errorf("append to the chain under %q: %w", c.root, ctx.Err())
	}
}

// commit appends what waits, one record after the other.
func (c *Chain) commit() {
	for {
		c.turn <- struct{}{}
		c.mu.Lock()
		n, size := 0, 0
		for n < len(c.queue) && n < maxParts && (n == 0 || size+len(c.queue[n].data) <= maxGroup) {
			size += len(c.queue[n].data)
			n++
		}
		group := c.queue[:n:n]
		c.queue = c.queue[n:]
		c.running = n > 0
		c.mu.Unlock()
		if n == 0 {
			<-c.turn
			return
		}
		parts := make([][]byte, n)
		for i, w := range group {
			parts[i] = w.data
		}
		seq, err := c.put(c.life, Data, parts...)
		<-c.turn
		for _, w := range group {
			w.seq, w.err = seq, err
			close(w.done)
		}
	}
}

// put appends one record. The caller has the turn.
func (c *Chain) put(ctx context.Context, kind Kind, parts ...[]byte) (uint64, error) {
	mine, body, err := c.record(kind, parts...)
	if err != nil {
		return 0, err
	}
	for {
		if err := c.Err(); err != nil {
			return 0, err
		}
		sent := c.o.Clock.now()
		theirs, clock, err := c.create(ctx, mine, body)
		if errors.Is(err, ErrDamaged) { // an object that this release cannot read has the number
			return 0, c.fence(Record{})
		} else if err != nil {
			return 0, fmt.Errorf("append to the chain under %q: %w", c.root, err)
		}
		switch theirs.Session {
		case "":
			if err := c.prove(ctx, sent, clock, c.next); err != nil {
				return 0, err
			}
			seq := c.next
			c.mu.Lock()
			c.next++
			c.mu.Unlock()
			return seq, nil
		case c.o.Session: // an earlier append of this process, which gave up before it knew
			c.mu.Lock()
			c.next++
			c.mu.Unlock()
		default:
			return 0, c.fence(theirs)
		}
	}
}

// prove takes note of a request, sent at a moment, whose answer says that this process owns the chain: record number last is its own, and none
// was found behind it. If the proof before is too old, a number may have been taken and trimmed meanwhile: then it lists first.
func (c *Chain) prove(ctx context.Context, sent instant, server time.Time, last uint64) error {
	now := c.o.Clock.now()
	now.server = server
	if now.since(c.proven) > blindFor {
		sent = c.o.Clock.now()
		if err := c.look(ctx, last); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	sent.server = server
	if sent.server.IsZero() {
		sent.server = c.proven.server
	}
	c.proven = sent
	return nil
}

// look lists what is behind the number last: a record, or a snapshot of more than is below this process's next record, was written by another process.
func (c *Chain) look(ctx context.Context, last uint64) error {
	for info, err := range c.b.List(ctx, c.root+"/", key(c.root, last)) {
		if err != nil {
			return fmt.Errorf("look for a takeover of the chain under %q: %w", c.root, err)
		}
		seq, snap, ok := parseKey(c.root, info.Key)
		if !ok || snap && seq <= c.next {
			continue
		}
		if snap {
			seq--
		}
		theirs, err := read(ctx, c.b, c.root, seq)
		if err != nil {
			theirs = Record{}
		}
		return c.fence(theirs)
	}
	return nil
}

func (c *Chain) fence(by Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fenced == nil {
		c.fenced = &FencedError{Root: c.root, By: by}
	}
	return c.fenced
}

// Confirm returns nil if this process owned the chain at some moment since it was called, and ErrFenced, from then on, if another one
// has taken over. Any other error says that the bucket could not be asked. Cost: 1 GET, or 1 LIST if the last proof is old.
func (c *Chain) Confirm(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("ask who owns the chain under %q: %w", c.root, ctx.Err())
	}
	defer func() { <-c.turn }()
	for {
		if err := c.Err(); err != nil {
			return err
		}
		sent := c.o.Clock.now()
		theirs, err := read(ctx, c.b, c.root, c.next)
		switch {
		case errors.Is(err, bucket.ErrNotFound):
			return c.prove(ctx, sent, time.Time{}, c.next-1)
		case errors.Is(err, ErrDamaged):
			return c.fence(Record{})
		case err != nil:
			return fmt.Errorf("ask who owns the chain under %q: %w", c.root, err)
		case theirs.Session != c.o.Session:
			return c.fence(theirs)
		}
		c.mu.Lock()
		c.next++ // an append of this process that gave up before it knew
		c.mu.Unlock()
	}
}

// Snapshot writes what the records below seq say, so that they need not be read again. It returns when the snapshot is durable. A snapshot of
// the same number has the same content, whichever process writes it. Cost: 1 PUT.
func (c *Chain) Snapshot(ctx context.Context, seq uint64, body io.ReadSeeker) error {
	c.mu.Lock()
	err, next := c.err(), c.next
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if seq == 0 || seq > next {
		return fmt.Errorf("snapshot %d of the chain under %q, whose next record is %d: take one in between", seq, c.root, next)
	}
	if err := c.b.Put(ctx, snapKey(c.root, seq), body); err != nil {
		return fmt.Errorf("write snapshot %d of the chain under %q: %w", seq, c.root, err)
	}
	return nil
}

// Trim removes what the newest snapshot makes needless and is older than trimAge, by the clock of the server at the last record. It never removes
// the newest record, nor anything if the server does not tell the time. Cost: 1 LIST and 1 DELETE per 1,000 objects.
func (c *Chain) Trim(ctx context.Context) error {
	c.mu.Lock()
	err, now := c.err(), c.proven.server
	c.mu.Unlock()
	if err != nil {
		return err
	}
	type object struct {
		seq  uint64
		snap bool
		info bucket.Info
	}
	var all []object
	var newest, snapshot uint64
	for info, err := range c.b.List(ctx, c.root+"/", "") {
		if err != nil {
			return fmt.Errorf("trim the chain under %q: %w", c.root, err)
		}
		seq, snap, ok := parseKey(c.root, info.Key)
		switch {
		case !ok:
			continue
		case snap:
			snapshot = max(snapshot, seq)
		default:
			newest = max(newest, seq)
		}
		all = append(all, object{seq, snap, info})
	}
	var old []string
	for _, o := range all {
		needless := o.seq < snapshot && (o.snap || o.seq < newest)
		if needless && !now.IsZero() && !o.info.Modified.IsZero() && now.Sub(o.info.Modified) > trimAge {
			old = append(old, o.info.Key)
		}
	}
	if len(old) == 0 {
		return nil
	}
	if err := c.b.Delete(ctx, old...); err != nil {
		return fmt.Errorf("trim the chain under %q: %w", c.root, err)
	}
	return nil
}

// Close appends a record that says that this process writes nothing more, so that another one may take over without the word of a person.
// It returns the error of that append; the chain is closed in any case. Close of a chain that was fenced does nothing. Cost: 1 PUT.
func (c *Chain) Close(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		c.Abandon()
		return fmt.Errorf("close the chain under %q: %w", c.root, ctx.Err())
	}
	defer func() { <-c.turn }()
	if c.Err() != nil {
		return nil
	}
	_, err := c.put(ctx, Closed)
	c.Abandon()
	if errors.Is(err, ErrFenced) {
		return nil
	}
	return err
}

// Abandon ends calls that are under way, and closes the chain without a record, as the death of the process does.
func (c *Chain) Abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.end()
}
