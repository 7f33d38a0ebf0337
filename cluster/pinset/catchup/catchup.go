package catchup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/frontier"
)

var logger = logging.Logger("cluster-aws")

const (
	// Checks come every two seconds, or seven at a deadline. A gap of this
	// length is a process that stood still.
	pausedAfter = 15 * time.Second

	// A change is fetched in milliseconds, announced every 5 s and given up
	// after 15 s, so that what has not moved after this long will not by itself.
	healAfter  = 20 * time.Second
	healAtOnce = 16
	healAtMost = 5 * time.Minute // between two attempts at the same change

	// A peer that is connected and does not answer is paused, or too busy to
	// answer in time. A peer that has just started waits for its answer this long.
	silentFor = 30 * time.Second

	// Time for one attempt at healing before the peer is taken out of service.
	stuckAfter = 60 * time.Second

	// How many changes a peer is asked for, and how many a report names.
	askFor  = 64
	nameFew = 5
)

// Consensus is what a Catchup looks at and acts on.
type Consensus interface {
	Loaded() error
	Heads(context.Context) []cid.Cid
	Announce([]cid.Cid) error
	IsTrustedPeer(context.Context, peer.ID) bool
}

// Changes are the changes that this peer has, or lacks: a [frontier.Store].
type Changes interface {
	Missing() []frontier.Missing
	Applied() uint64
	IsApplied(context.Context, frontier.Change) (bool, error)
	Holds(context.Context, frontier.Change) (bool, error)
	Reopen(context.Context, frontier.Change) error
}

// Peer is another peer as a check finds it.
type Peer struct {
	Name string
	ID   peer.ID
	// Connected says that it can be asked.
	Connected bool
	// Tried says that a connection was tried.
	Tried bool
}

// Status is what a check finds.
type Status struct {
	// OK says that this peer has caught up.
	OK bool
	// Detail says so to people.
	Detail string
	// Missing names the changes, or the peers, that are waited for.
	Missing []string
}

// Catchup follows one peer's progress. Its checks must not run at the same time.
type Catchup struct {
	consensus Consensus
	changes   Changes
	ask       func(context.Context, peer.ID, question) (answer, error)
	now       func() time.Time

	once       bool // caught up since the start or the last pause
	checked    time.Time
	applied    uint64
	progressed time.Time
	healed     time.Time
	news       map[frontier.Change]news
	attempts   map[frontier.Change]attempt
	silent     map[peer.ID]time.Time // since when
}

// news is a change that another peer has and this one does not know of.
type news struct {
	since time.Time
	from  []string
}

type attempt struct {
	next     time.Time
	interval time.Duration
}

func newCatchup(c Consensus, changes Changes, ask func(context.Context, peer.ID, question) (answer, error)) *Catchup {
	return &Catchup{
		consensus: c, changes: changes, ask: ask, now: time.Now,
		news: map[frontier.Change]news{}, attempts: map[frontier.Change]attempt{}, silent: map[peer.ID]time.Time{},
	}
}

// Check asks the other peers, says how far this one is, and heals what is stuck.
func (c *Catchup) Check(ctx context.Context, peers []Peer) Status {
	now := c.now()
	if !c.checked.IsZero() && now.Sub(c.checked) > pausedAfter {
		logger.Warnf("this process stood still for %s; it is not ready until it has caught up again", now.Sub(c.checked).Round(time.Second))
		c.once = false
	}
	c.checked = now
	if err := c.consensus.Loaded(); err != nil {
		return Status{Detail: err.Error()}
	}
	missing := c.changes.Missing()
	round, err := c.askAll(ctx, peers, missing)
	if err == nil {
		err = c.learn(ctx, now, round)
	}
	if err != nil {
		return Status{Detail: err.Error()}
	}
	due, lost := c.due(ctx, missing, round)
	if applied := c.changes.Applied(); applied != c.applied || len(due) == 0 || c.progressed.IsZero() {
		c.applied, c.progressed = applied, now
	}
	if now.Sub(c.progressed) >= healAfter && now.Sub(c.healed) >= healAfter/2 {
		if err := c.heal(ctx, now, due, missing); err != nil {
			return Status{Detail: err.Error()}
		}
	}
	return c.judge(now, round, due, lost)
}

// round is what the other peers said.
type round struct {
	answered, silent []string
	open             []string                     // those whose answer is waited for
	heads            map[frontier.Change][]string // and whose they are
	held             map[frontier.Change]bool
}

func (c *Catchup) askAll(ctx context.Context, peers []Peer, missing []frontier.Missing) (round, error) {
	r := round{heads: map[frontier.Change][]string{}, held: map[frontier.Change]bool{}}
	var q question
	for _, m := range missing[:min(len(missing), askFor)] {
		id, err := m.Change.Cid()
		if err != nil {
			return r, err
		}
		q.Holds = append(q.Holds, id.String())
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, p := range peers {
		switch {
		case !p.Connected && !p.Tried:
			mu.Lock()
			r.open = append(r.open, p.Name)
			mu.Unlock()
		case p.Connected:
			asking.Go(func() {
				a, err := c.ask(ctx, p.ID, q)
				mu.Lock()
				defer mu.Unlock()
				if err != nil && !errors.Is(err, errUnknown) {
					if c.silent[p.ID].IsZero() {
						c.silent[p.ID] = c.checked
					}
					if c.checked.Sub(c.silent[p.ID]) < silentFor {
						r.open = append(r.open, p.Name)
					} else {
						r.silent = append(r.silent, p.Name)
					}
					return
				}
				delete(c.silent, p.ID)
				r.answered = append(r.answered, p.Name)
				for _, h := range decode(a.Heads) {
					r.heads[h] = append(r.heads[h], p.Name)
				}
				for _, h := range decode(a.Holds) {
					r.held[h] = true
				}
			})
		}
	}
	asking.Wait()
	slices.Sort(r.open)
	slices.Sort(r.answered)
	slices.Sort(r.silent)
	return r, nil
}

// learn takes down what the others have and this peer has not heard of.
func (c *Catchup) learn(ctx context.Context, now time.Time, r round) error {
	fresh := map[frontier.Change]news{}
	for change, from := range r.heads {
		done, err := c.changes.IsApplied(ctx, change)
		if err != nil {
			return fmt.Errorf("look whether change %s is applied: %w", change, err)
		}
		if done {
			continue
		}
		n, known := c.news[change]
		if !known {
			n.since = now
		}
		slices.Sort(from)
		n.from = from
		fresh[change] = n
	}
	c.news = fresh
	return nil
}

// due is what this peer lacks and can have, by when that became known; lost is
// what nobody has who answers.
func (c *Catchup) due(ctx context.Context, missing []frontier.Missing, r round) (due map[frontier.Change]time.Time, lost int) {
	due = map[frontier.Change]time.Time{}
	for _, m := range missing {
		due[m.Change] = m.Since
		if r.held[m.Change] || c.checked.Sub(m.Since) < healAfter || len(due) > askFor {
			continue
		}
		if here, err := c.changes.Holds(ctx, m.Change); err == nil && !here {
			delete(due, m.Change)
			lost++
		}
	}
	for change, n := range c.news {
		due[change] = n.since
	}
	for change := range c.attempts {
		if _, ok := due[change]; !ok {
			delete(c.attempts, change)
		}
	}
	return due, lost
}

// heal announces what is due to the own consensus again. A change whose
// successors are applied is announced by them, taken up again, and by the newest
// ones above them, which become heads only in this way.
func (c *Catchup) heal(ctx context.Context, now time.Time, due map[frontier.Change]time.Time, missing []frontier.Missing) error {
	after := map[frontier.Change][]frontier.Change{}
	tops := map[frontier.Change][]frontier.Change{}
	for _, m := range missing {
		after[m.Change], tops[m.Change] = m.After, m.Tops
	}
	var from []cid.Cid
	announced := map[frontier.Change]bool{}
	for _, change := range slices.Sorted(maps.Keys(due)) {
		a := c.attempts[change]
		if len(from) >= healAtOnce || now.Before(a.next) {
			continue
		}
		if slices.ContainsFunc(after[change], func(s frontier.Change) bool { _, ok := due[s]; return ok }) {
			continue // it comes with its successor
		}
		starts := slices.Concat(after[change], tops[change])
		if len(starts) == 0 {
			starts = []frontier.Change{change}
		}
		for _, s := range starts {
			if announced[s] {
				continue
			}
			announced[s] = true
			id, err := s.Cid()
			if err != nil {
				return err
			}
			if s != change {
				if err := c.changes.Reopen(ctx, s); err != nil {
					return err
				}
			}
			from = append(from, id)
		}
		a.interval = min(max(2*a.interval, healAfter), healAtMost)
		a.next = now.Add(a.interval)
		c.attempts[change] = a
	}
	if len(from) == 0 {
		return nil
	}
	c.healed = now
	if err := c.consensus.Announce(from); err != nil {
		logger.Warnf("%d changes of the pinset are missing and were not asked for again, will try later: %s", len(due), err)
		return nil
	}
	logger.Warnf("%d changes of the pinset are missing and do not come by themselves; asked for them again, from %d changes on", len(due), len(from))
	return nil
}

func (c *Catchup) judge(now time.Time, r round, due map[frontier.Change]time.Time, lost int) Status {
	s := Status{OK: len(due) == 0 && len(r.open) == 0}
	if s.OK {
		c.once = true
	}
	var said []string
	switch {
	case len(due) > 0:
		oldest := slices.MinFunc(slices.Collect(maps.Values(due)), time.Time.Compare)
		said = append(said, fmt.Sprintf("%d changes are not here yet, the oldest since %s", len(due), now.Sub(oldest).Round(time.Second)))
		for _, change := range slices.Sorted(maps.Keys(due))[:min(len(due), nameFew)] {
			m := "change " + string(change)
			if from := c.news[change].from; len(from) > 0 {
				m += " of " + strings.Join(from, ", ")
			}
			s.Missing = append(s.Missing, m)
		}
	case len(r.answered) > 0:
		said = append(said, "the pinset is that of "+strings.Join(r.answered, ", "))
	default:
		said = append(said, "the pinset is loaded; no other peer says what it has")
	}
	if len(r.open) > 0 {
		said = append(said, "waiting for the answer of "+strings.Join(r.open, ", "))
		for _, p := range r.open {
			s.Missing = append(s.Missing, "peer "+p)
		}
	}
	if len(r.silent) > 0 {
		said = append(said, "no answer from "+strings.Join(r.silent, ", "))
	}
	if lost > 0 {
		said = append(said, fmt.Sprintf("%d changes are held by no peer that answers", lost))
	}
	s.Detail = strings.Join(said, "; ")
	if !s.OK && c.once {
		s.OK = now.Sub(c.progressed) < stuckAfter
	}
	return s
}

// decode reads CIDs of changes and leaves out what is none.
func decode(cids []string) []frontier.Change {
	var changes []frontier.Change
	for _, s := range cids {
		if id, err := cid.Decode(s); err == nil {
			changes = append(changes, frontier.Named(id))
		}
	}
	return changes
}
