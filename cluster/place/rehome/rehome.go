package rehome

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	pinset "github.com/ipfs-cluster/ipfs-cluster/state"
	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/placement"
	"github.com/ipfs-aws/ipfs-aws/cluster/place/spread"
)

var logger = logging.Logger("cluster-aws")

const (
	// lookInterval is how often it is looked who is there: a few reads in memory.
	lookInterval = time.Second

	// confirmInterval is how long pins are left to be copied before their peers
	// are asked again whether they hold them.
	confirmInterval = 10 * time.Second

	// idleInterval is how often the pinset is gone through when nothing has
	// changed, for what no other rule has noticed. 100,000 pins are a second or two of
	// work.
	idleInterval = 10 * time.Minute

	// passLimit is how many pins of each kind one pass takes on: some 300 bytes
	// each.
	passLimit = 1000
)

// Options say how calmly pins are moved.
type Options struct {
	// Delay is how long a peer must be away to have gone, and there to be back.
	Delay time.Duration
	// Rate is how many pins this peer changes in a second, at most.
	Rate int
	// Self is this peer; Peers are all that are expected, itself included. An
	// empty list means those that were seen.
	Self  peer.ID
	Peers []peer.ID
	// Short is told when a pin comes to the pinset that has fewer peers than copies are to
	// be kept. It may be nil.
	Short <-chan struct{}
}

// Cluster is what moving pins needs of it.
type Cluster interface {
	// There returns the peers that can be allocated to right now.
	There(context.Context) []spread.Candidate
	// Pins sends the pinset and closes the channel.
	Pins(context.Context, chan<- api.Pin) error
	// Read returns a pin and the version of its record, or ipfs-cluster's state.ErrNotFound.
	Read(context.Context, api.Cid) (api.Pin, placement.Version, error)
	// Place says where a pin of this version is. If the pin is another one by now, or gone,
	// the error is placement.ErrChanged.
	Place(context.Context, api.Pin, placement.Version) error
	// Status says how far the peers of a pin are.
	Status(context.Context, api.Cid) (api.GlobalPinInfo, error)
	// Former names the peers that are connected and do not read placements.
	Former(context.Context) []string
}

// Run moves pins until the context ends.
func Run(ctx context.Context, c Cluster, o Options) {
	r := &runner{Cluster: c, Options: o, members: newMembers(o.Delay, o.Peers, time.Now())}
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	due := time.Now().Add(idleInterval)
	var last time.Time // of a pass
	sooner := func(at time.Time) {
		if at.Before(due) {
			due = at
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.Short:
			sooner(last.Add(confirmInterval))
		case <-tick.C:
		}
		if changed, came := r.look(ctx); changed || came {
			due = time.Now()
			if changed {
				r.report()
			}
		}
		v := r.members.view(r.Self)
		if !v.majority && !v.most || time.Now().Before(due) {
			continue
		}
		if r.mixed(ctx) {
			due = time.Now().Add(confirmInterval)
			continue
		}
		next := r.pass(ctx, v)
		last = time.Now()
		due = last.Add(next)
	}
}

type runner struct {
	Cluster
	Options
	members *members
	moved   map[kind]int // since the last report
	former  string       // peers that were reported to read no placements
}

func (r *runner) look(ctx context.Context) (changed, came bool) {
	return r.members.look(time.Now(), r.There(ctx))
}

// mixed reports whether a peer is connected that would not follow a move.
func (r *runner) mixed(ctx context.Context) bool {
	former := strings.Join(r.Former(ctx), ", ")
	if former != r.former && former != "" {
		logger.Infof("no pins are moved while peers of a former release, or of ipfs-cluster, are connected: %s", former)
	}
	r.former = former
	return former != ""
}

// report says what is settled.
func (r *runner) report() {
	n := map[state]int{}
	for _, k := range r.members.known {
		n[k.settled]++
	}
	if n[gone] == 0 && n[unsettled] > 0 {
		return // the beginning
	}
	v := r.members.view(r.Self)
	if !v.majority {
		logger.Warnf("%d of %d peers are there, not more than half: no pins are moved", len(v.open), len(r.members.known))
		return
	}
	if n[gone] > 0 {
		logger.Warnf("%d of %d peers have been gone for %s; pins that have too few copies are allocated to others until they are back", n[gone], len(r.members.known), r.Delay)
	}
}

// pass makes the next step with the pins that need one and returns when to
// make another pass.
func (r *runner) pass(ctx context.Context, v *view) (next time.Duration) {
	steps, err := r.collect(ctx, v)
	if err != nil {
		if ctx.Err() == nil {
			logger.Warnf("the pinset could not be gone through for pins to move, will try again: %s", err)
		}
		return confirmInterval
	}
	if len(steps) == 0 {
		if len(r.moved) > 0 {
			logger.Infof("pins moved: %d to other peers because copies were missing, %d copied to where they belong, %d back there alone",
				r.moved[replace]+r.moved[complete], r.moved[approach], r.moved[arrive])
			r.moved = nil
		}
		return idleInterval
	}
	waiting := 0
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for len(steps) > 0 {
		group := steps[:min(r.Rate, len(steps))]
		steps = steps[len(group):]
		waiting += r.make(ctx, v, group)
		select {
		case <-ctx.Done():
			return 0
		case <-tick.C:
		}
		if changed, _ := r.look(ctx); changed {
			r.report()
			return 0 // plans of before may be wrong now
		}
	}
	if waiting > 0 {
		return confirmInterval
	}
	return 0
}

// collect returns steps for the pins that this peer is responsible for: first
// those that are missing copies.
func (r *runner) collect(ctx context.Context, v *view) ([]step, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pins := make(chan api.Pin, 1024)
	listed := make(chan error, 1)
	go func() { listed <- r.Pins(ctx, pins) }()
	of := map[kind][]step{}
	for pin := range pins {
		s := v.plan(pin)
		if len(of[s.kind]) < passLimit && v.may(s) {
			of[s.kind] = append(of[s.kind], s)
		}
	}
	return slices.Concat(of[replace], of[complete], of[approach], of[arrive]), <-listed
}

// make makes steps side by side, so that they become one change of the pinset,
// and returns how many must wait for copies.
func (r *runner) make(ctx context.Context, v *view, steps []step) (waiting int) {
	results := make(chan kind, len(steps))
	var failed sync.Once
	for _, s := range steps {
		go func() {
			k, err := r.makeOne(ctx, v, s)
			if err != nil && ctx.Err() == nil {
				failed.Do(func() { logger.Warnf("%s was not moved, will try again: %s", s.pin.Cid, err) })
			}
			results <- k
		}()
	}
	for range steps {
		if k := <-results; k == nothing {
			waiting++
		} else {
			if r.moved == nil {
				r.moved = map[kind]int{}
			}
			r.moved[k]++
		}
	}
	return waiting
}

// makeOne makes one step, if it is still the next one, and returns its kind;
// nothing if it was not made.
func (r *runner) makeOne(ctx context.Context, v *view, s step) (kind, error) {
	pin, version, err := r.Read(ctx, s.pin.Cid)
	if errors.Is(err, pinset.ErrNotFound) {
		return nothing, nil // unpinned meanwhile
	}
	if err != nil {
		return nothing, err
	}
	now := v.plan(pin)
	if now.kind != s.kind {
		return nothing, nil
	}
	if now.kind == arrive {
		held, err := r.held(ctx, now.pin)
		if !held || err != nil {
			return nothing, err
		}
	}
	switch err := r.Place(ctx, now.pin, version); {
	case errors.Is(err, placement.ErrChanged):
		return nothing, nil // the next pass looks at it again
	case err != nil:
		return nothing, err
	}
	return now.kind, nil
}

// held says whether all peers that a pin is to be allocated to hold it.
func (r *runner) held(ctx context.Context, pin api.Pin) (bool, error) {
	info, err := r.Status(ctx, pin.Cid)
	if err != nil {
		return false, err
	}
	for _, id := range pin.Allocations {
		if info.PeerMap[id.String()].Status != api.TrackerStatusPinned {
			return false, nil
		}
	}
	return true, nil
}
