package owner

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

const (
	// DefaultLease is how long a dead node blocks its successor under another id. At one PUT per 40 s a node that writes all day pays
	// $0.32 a month for it.
	DefaultLease = time.Minute

	// grace is added to the lease before it is taken for expired. Both times that the server tells are cut to the second, which
	// makes an object seem up to 1 s too old; the rest is for clocks that differ within the service or run at different speeds.
	grace = 5 * time.Second

	// attempts bounds how often one call reads and writes the object while others write it, too.
	attempts = 5
)

// Options of Acquire.
type Options struct {
	Key   string        // of the object
	ID    string        // of this node: random, and kept with its data
	Host  string        // where it runs, for people
	Lease time.Duration // whole seconds; 0 for DefaultLease

	now   func() time.Time // for tests
	grace time.Duration    // for tests
}

// Owner is a node's claim to a prefix.
type Owner struct {
	b    bucket.Bucket
	o    Options
	life context.Context // of renewals
	end  context.CancelFunc

	predecessor string // session of this node that was in the object

	mu       sync.Mutex
	record   Record
	etag     string    // of the object as this node knows it
	sent     time.Time // before the write that began the lease was sent
	held     bool      // sent counts: this session wrote the object
	running  *renewal
	retry    time.Time // no renewal ahead of need before that
	replaced error
	released bool
	renewals uint64
}

// renewal is one attempt, shared by all who wait for it.
type renewal struct {
	done chan struct{}
	err  error
}

// Acquire claims the prefix for this node: creates the object, or takes over one whose lease has run out, or finds the
// node's own. *OwnedError: another node has it. Errors of the bucket are returned as they are. Cost: 1 GET, and 1 PUT unless the
// object names this node; that one is written by the first Hold.
func Acquire(ctx context.Context, b bucket.Bucket, o Options) (*Owner, error) {
	if o.Lease == 0 {
		o.Lease = DefaultLease
	}
	if o.now == nil {
		o.now, o.grace = time.Now, max(o.grace, grace)
	}
	if o.Key == "" || o.ID == "" || o.Lease < time.Second || o.Lease%time.Second != 0 {
		return nil, fmt.Errorf("own a prefix: key %q, id %q, lease %s: use names, and whole seconds", o.Key, o.ID, o.Lease)
	}
	w := &Owner{b: b, o: o}
	w.life, w.end = context.WithCancel(context.Background())
	session := rand.Text()
	for range attempts {
		mine := Record{Version: recordVersion, ID: o.ID, Host: o.Host, Session: session, Epoch: 1,
			Lease: int64(o.Lease / time.Second), Since: o.now().UTC().Truncate(time.Second)}
		cond := bucket.Condition{Absent: true}
		theirs, info, err := read(ctx, b, o.Key)
		switch {
		case errors.Is(err, bucket.ErrNotFound):
		case err != nil:
			return nil, fmt.Errorf("find the owner of the prefix: %w", err)
		case theirs.ID == o.ID:
			mine.Epoch, mine.Since = theirs.Epoch, theirs.Since
			w.record, w.etag, w.predecessor = mine, info.ETag, theirs.Session
			return w, nil
		case !expired(theirs, info, o.grace):
			e := &OwnedError{Key: o.Key, Owner: theirs}
			if !info.Modified.IsZero() {
				e.Expires = info.Modified.Add(theirs.lease() + o.grace)
			}
			return nil, e
		default:
			mine.Epoch = theirs.Epoch + 1
			cond = bucket.Condition{ETag: info.ETag}
		}
		sent := o.now()
		etag, err := write(ctx, b, o.Key, mine, cond)
		switch {
		case err == nil:
			w.record, w.etag, w.sent, w.held = mine, etag, sent, true
			return w, nil
		case !errors.Is(err, bucket.ErrPreconditionFailed):
			return nil, fmt.Errorf("become the owner of the prefix: %w", err)
		}
	}
	return nil, fmt.Errorf("become the owner of the prefix: others wrote object %q %d times meanwhile: try again", o.Key, attempts)
}

// expired judges by the server's clock alone. A record without a lease was released.
func expired(r Record, info bucket.Info, grace time.Duration) bool {
	if r.Lease == 0 {
		return true
	}
	return !info.Clock.IsZero() && !info.Modified.IsZero() && info.Clock.Sub(info.Modified) > r.lease()+grace
}

// Hold returns nil if this node owns the prefix now. While the lease is good it asks nothing; when a third of it is left it has it
// renewed in the background; when it has run out it waits for the renewal. *ReplacedError, from then on: another node took over. Any
// other error says that the bucket could not be asked, and that ownership is not certain: nothing may be acknowledged.
func (w *Owner) Hold(ctx context.Context) error {
	for {
		w.mu.Lock()
		switch {
		case w.replaced != nil:
			defer w.mu.Unlock()
			return w.replaced
		case w.released:
			defer w.mu.Unlock()
			return ErrReleased
		}
		left := w.left()
		if left > w.o.Lease/3 {
			w.mu.Unlock()
			return nil
		}
		if w.running == nil && (left <= 0 || !w.o.now().Before(w.retry)) {
			w.running = &renewal{done: make(chan struct{})}
			go w.renew(w.running)
		}
		r := w.running
		w.mu.Unlock()
		if left > 0 {
			return nil
		}
		select {
		case <-r.done:
			if r.err != nil {
				return r.err
			}
		case <-ctx.Done():
			return fmt.Errorf("confirm the ownership of the prefix: %w", ctx.Err())
		}
	}
}

// Until returns when the lease ends by the clocks of this machine, for a request that must not be sent later: its context gets
// that deadline. It is only worth something after Hold.
func (w *Owner) Until() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent.Add(w.o.Lease)
}

// left is how much of the lease remains; w.mu is held.
func (w *Owner) left() time.Duration {
	if !w.held {
		return 0
	}
	now := w.o.now()
	passed := max(now.Sub(w.sent), now.Round(0).Sub(w.sent.Round(0)))
	return w.o.Lease - passed
}

// renew writes the object once more.
func (w *Owner) renew(r *renewal) {
	err := w.rewrite(w.life, w.o.Lease)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.retry = w.o.now().Add(w.o.Lease / 12)
	}
	r.err = err
	w.running = nil
	close(r.done)
}

// rewrite writes the object with the given lease, if it is this session's, or the one that this session took back. It is called by
// one goroutine at a time.
func (w *Owner) rewrite(ctx context.Context, lease time.Duration) error {
	for range attempts {
		w.mu.Lock()
		w.record.Renewal++
		w.record.Lease = int64(lease / time.Second)
		mine, cond := w.record, bucket.Condition{ETag: w.etag}
		w.mu.Unlock()
		if cond.ETag == "" {
			cond.Absent = true
		}
		sent := w.o.now()
		etag, err := write(ctx, w.b, w.o.Key, mine, cond)
		if err == nil {
			w.mu.Lock()
			w.etag, w.sent, w.held = etag, sent, true
			w.renewals++
			w.mu.Unlock()
			return nil
		}
		if !errors.Is(err, bucket.ErrPreconditionFailed) && !errors.Is(err, bucket.ErrNotFound) {
			return fmt.Errorf("confirm the ownership of the prefix: %w", err)
		}
		// Somebody wrote it. Perhaps it was this session, and the answer was lost, or a late request of the one before.
		theirs, info, err := read(ctx, w.b, w.o.Key)
		if err != nil && !errors.Is(err, bucket.ErrNotFound) {
			return fmt.Errorf("confirm the ownership of the prefix: %w", err)
		}
		w.mu.Lock()
		switch {
		case err != nil:
			w.etag = "" // it was deleted by hand: create it
		case theirs.Session == mine.Session, theirs.ID == mine.ID && theirs.Session == w.predecessor:
			w.etag = info.ETag
		default:
			w.replaced = &ReplacedError{Key: w.o.Key, Owner: theirs}
			w.mu.Unlock()
			return w.replaced
		}
		w.mu.Unlock()
	}
	return fmt.Errorf("confirm the ownership of the prefix: others wrote object %q %d times meanwhile: try again", w.o.Key, attempts)
}

// Release ends the claim, so that another node need not wait for the lease: if it has not run out, the object is written without
// one. No Hold succeeds afterwards. Cost: 1 PUT if the lease is good, else nothing.
func (w *Owner) Release(ctx context.Context) error {
	w.mu.Lock()
	if w.released {
		w.mu.Unlock()
		return nil
	}
	w.released = true
	r := w.running
	w.mu.Unlock()
	w.end()
	if r != nil {
		<-r.done
	}
	w.mu.Lock()
	void := w.replaced != nil || w.left() <= 0
	w.mu.Unlock()
	if void {
		return nil
	}
	if err := w.rewrite(ctx, 0); err != nil {
		return fmt.Errorf("release the prefix, which stays owned until the lease has run out: %w", err)
	}
	return nil
}

// Status describes the claim at one moment.
type Status struct {
	Record   Record
	Left     time.Duration // of the lease; not positive: it has run out, and the next Hold renews it
	Renewals uint64        // by this process
	Replaced bool
}

// Status asks nothing.
func (w *Owner) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Status{Record: w.record, Left: w.left(), Renewals: w.renewals, Replaced: w.replaced != nil}
}
