package rehome

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	pinset "github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/placement"
	"github.com/ipfs-aws/ipfs-aws/cluster/place/spread"
)

const (
	delay = time.Minute
	rate  = 20
)

// id is a peer ID that has a text form.
func id(name string) peer.ID {
	mh, _ := multihash.Encode([]byte(name), multihash.IDENTITY) // never fails for this hash
	return peer.ID(mh)
}

// six are two peers in each of three zones; a peer's name begins with its zone.
func six() []spread.Candidate {
	var out []spread.Candidate
	for _, name := range []string{"a1", "a2", "b1", "b2", "c1", "c2"} {
		out = append(out, spread.Candidate{ID: id(name), Zone: name[:1], Weight: 100})
	}
	return out
}

func ids(names ...string) []peer.ID {
	var out []peer.ID
	for _, n := range names {
		out = append(out, id(n))
	}
	return out
}

func key(i int) api.Cid {
	sum := sha256.Sum256(fmt.Append(nil, i))
	mh, _ := multihash.Encode(sum[:], multihash.SHA2_256) // its length is right
	return api.NewCid(cid.NewCidV1(cid.Raw, mh))
}

func newPin(c api.Cid, copies int, at ...peer.ID) api.Pin {
	p := api.PinWithOpts(c, api.PinOptions{ReplicationFactorMin: copies, ReplicationFactorMax: copies})
	p.Allocations = at
	return p
}

// viewOf is a settled view in which those that are named have gone.
func viewOf(self string, away ...string) *view {
	m := newMembers(0, nil, time.Time{})
	m.look(time.Time{}, six())
	m.look(time.Time{}, slices.DeleteFunc(six(), func(c spread.Candidate) bool { return slices.Contains(ids(away...), c.ID) }))
	return m.view(id(self))
}

func TestPlans(t *testing.T) {
	upTo := func(most int, p api.Pin) api.Pin {
		p.ReplicationFactorMax = most
		return p
	}
	homed := func(copies int, home []peer.ID, at ...peer.ID) api.Pin {
		return allocated(newPin(key(1), copies), at, home)
	}
	for name, c := range map[string]struct {
		away []string
		pin  api.Pin
		kind kind
		at   []peer.ID // nil: any that fulfil check
		home []peer.ID
	}{
		"well placed":                           {pin: newPin(key(1), 2, ids("a1", "b1")...)},
		"everywhere":                            {away: []string{"c1", "c2"}, pin: newPin(key(1), -1)},
		"another peer's loss":                   {away: []string{"c1", "c2"}, pin: newPin(key(1), 2, ids("a1", "b1")...)},
		"a copy is lost, one is enough to pin":  {away: []string{"b2", "c1", "c2"}, pin: upTo(2, newPin(key(1), 1, ids("a1", "c1")...)), kind: replace, at: ids("a1", "b1"), home: ids("a1", "c1")},
		"accepted with one peer":                {pin: upTo(2, newPin(key(1), 1, ids("a1")...)), kind: complete},
		"accepted with one peer, others away":   {away: []string{"b2", "c1", "c2"}, pin: upTo(3, newPin(key(1), 1, ids("a1")...)), kind: complete, at: ids("a1", "b1", "a2")},
		"its maximum was raised while away":     {away: []string{"b2", "c1", "c2"}, pin: upTo(3, homed(1, ids("a1", "c1"), ids("a1", "b1")...)), kind: complete, at: ids("a1", "b1", "a2"), home: ids("a1", "c1")},
		"its home is back, and too small":       {pin: upTo(3, homed(1, ids("a1", "c1"), ids("a1", "b1")...)), kind: approach, at: ids("a1", "b1", "c1"), home: ids("a1", "c1", "b1")},
		"its home is back, and too large":       {pin: homed(2, ids("a1", "a2", "c1"), ids("a1", "a2", "c1")...), kind: arrive},
		"its maximum was lowered":               {pin: newPin(key(1), 2, ids("a1", "b1", "c1")...), kind: arrive},
		"its maximum was lowered while away":    {away: []string{"c1"}, pin: newPin(key(1), 2, ids("a1", "b1", "c1")...), kind: arrive, at: ids("a1", "b1")},
		"a copy is lost":                        {away: []string{"b2", "c1", "c2"}, pin: newPin(key(1), 2, ids("a1", "c1")...), kind: replace, at: ids("a1", "b1"), home: ids("a1", "c1")},
		"a zone is lost, three copies":          {away: []string{"b2", "c1", "c2"}, pin: newPin(key(1), 3, ids("a1", "b1", "c1")...), kind: replace, at: ids("a1", "b1", "a2"), home: ids("a1", "b1", "c1")},
		"all copies are lost":                   {away: []string{"a1", "b2", "c1"}, pin: newPin(key(1), 1, ids("c1")...), kind: replace, home: ids("c1")},
		"nobody can take over":                  {away: []string{"c1"}, pin: newPin(key(1), 6, ids("a1", "a2", "b1", "b2", "c1", "c2")...)},
		"somebody, but too few":                 {away: []string{"c1", "c2"}, pin: newPin(key(1), 5, ids("a1", "a2", "b1", "c1", "c2")...), kind: replace, at: ids("a1", "a2", "b1", "b2", "c1"), home: ids("a1", "a2", "b1", "c1", "c2")},
		"moved, its home is still away":         {away: []string{"c1"}, pin: homed(2, ids("a1", "c1"), ids("a1", "b1")...)},
		"moved, and a copy is lost again":       {away: []string{"a2", "b1", "c1", "c2"}, pin: homed(2, ids("a1", "c1"), ids("a1", "b1")...), kind: replace, at: ids("a1", "b2"), home: ids("a1", "c1")},
		"its home is back":                      {pin: homed(2, ids("a1", "c1"), ids("a1", "b1")...), kind: approach, at: ids("a1", "b1", "c1"), home: ids("a1", "c1")},
		"it is at home and elsewhere":           {pin: homed(2, ids("a1", "c1"), ids("a1", "b1", "c1")...), kind: arrive, at: ids("a1", "c1")},
		"it is at home and does not know":       {pin: homed(2, ids("a1", "c1"), ids("c1", "a1")...), kind: arrive, at: ids("a1", "c1")},
		"two copies in a zone":                  {pin: newPin(key(1), 2, ids("a1", "a2")...), kind: approach},
		"two copies in a zone, one too many":    {pin: newPin(key(1), 2, ids("a1", "a2", "b1")...), kind: arrive},
		"two copies in a zone, no zone is free": {away: []string{"c1", "c2"}, pin: newPin(key(1), 3, ids("a1", "a2", "b1")...)},
		"somebody else's metadata": {pin: func() api.Pin {
			p := newPin(key(1), 2, ids("a1", "b1")...)
			p.Metadata = map[string]string{placement.HomeKey: "x"}
			return p
		}()},
	} {
		t.Run(name, func(t *testing.T) {
			before := fmt.Sprint(c.pin)
			s := viewOf("a1", c.away...).plan(c.pin)
			require.Equal(t, before, fmt.Sprint(c.pin), "the pin itself is not changed")
			require.Equal(t, c.kind, s.kind)
			if c.kind == nothing {
				return
			}
			if c.at != nil {
				require.ElementsMatch(t, c.at, s.pin.Allocations)
			}
			if c.home != nil {
				require.Equal(t, c.home, viewOf("a1").home(s.pin))
			}
			for _, one := range []string{"a1", "b2", "c1"} {
				require.Equal(t, s, viewOf(one, c.away...).plan(c.pin), "every peer makes the same plan")
			}
		})
	}
}

func TestABetterHomeUsesEveryZone(t *testing.T) {
	v := viewOf("a1")
	for i := range 100 {
		s := v.plan(newPin(key(i), 3, ids("a1", "a2", "b1")...))
		require.Equal(t, approach, s.kind)
		zones := map[string]bool{}
		for _, one := range v.home(s.pin) {
			zones[v.zone[one]] = true
		}
		require.Len(t, zones, 3)
	}
}

func TestAHomeThatNobodyExpectsIsNone(t *testing.T) {
	pin := allocated(newPin(key(1), 2), ids("a1", "b1"), ids("a1", "d1"))
	m := newMembers(0, ids("a1", "a2", "b1", "b2", "c1", "c2"), time.Time{})
	m.look(time.Time{}, six())
	require.Nil(t, m.view(id("a1")).home(pin), "d1 is not on the list")
	require.NotNil(t, viewOf("a1").home(pin), "without a list it may come back")
}

func TestOnePeerIsResponsible(t *testing.T) {
	count := map[string]int{}
	for i := range 600 {
		for _, name := range []string{"a1", "a2", "b1", "b2"} {
			if v := viewOf(name, "c1", "c2"); v.responsible(key(i).Bytes(), v.open) {
				count[name]++
			}
		}
	}
	total := 0
	for name, n := range count {
		require.InDelta(t, 150, n, 60, name)
		total += n
	}
	require.Equal(t, 600, total)
}

func TestABlinkChangesNothing(t *testing.T) {
	t0 := time.Unix(1e9, 0)
	m := newMembers(delay, ids("a1", "a2", "b1", "b2", "c1", "c2"), t0)
	all, five := six(), six()[:5]
	now := t0
	pass := func(d time.Duration, there []spread.Candidate) (changes int) {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(lookInterval)
			if changed, _ := m.look(now, there); changed {
				changes++
			}
		}
		return changes
	}
	require.Zero(t, pass(delay/2, all))
	require.False(t, m.view(id("a1")).majority, "nothing is settled at the beginning")
	pass(delay, all)
	require.True(t, m.view(id("a1")).majority)
	for range 10 {
		require.Zero(t, pass(delay-2*lookInterval, five))
		require.Equal(t, present, m.view(id("a1")).of(id("c2")))
		require.False(t, m.view(id("a1")).isOpen(id("c2")), "nothing new is given to it")
		require.Zero(t, pass(2*lookInterval, all))
	}
	require.Equal(t, 1, pass(2*delay, five))
	require.Equal(t, gone, m.view(id("a1")).of(id("c2")))
	require.Zero(t, pass(delay-2*lookInterval, all))
	require.Zero(t, pass(delay, five), "it was not back for long enough")
	require.Equal(t, 1, pass(2*delay, all))

	// This process is stopped while somebody is away for a moment.
	pass(2*lookInterval, five)
	now = now.Add(time.Hour)
	require.Zero(t, pass(lookInterval, five))
	require.Equal(t, present, m.view(id("a1")).of(id("c2")))
	// Whoever is not known has gone as soon as it is clear who is there.
	require.Equal(t, gone, m.view(id("a1")).of(id("d1")))
	require.Equal(t, unsettled, newMembers(delay, ids("a1"), now).view(id("a1")).of(id("d1")))
}

// world is a cluster in memory: one pinset that all see at once.
type world struct {
	mu     sync.Mutex
	pins   map[string]api.Pin
	away   map[peer.ID]bool
	writes map[int64]map[peer.ID]int // by second and writer
	total  int
}

type member1 struct {
	*world
	self peer.ID
}

func (w member1) There(context.Context) []spread.Candidate {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(six(), func(c spread.Candidate) bool { return w.away[c.ID] != w.away[w.self] })
}

func (w member1) Pins(_ context.Context, out chan<- api.Pin) error {
	w.mu.Lock()
	all := slices.Collect(maps.Values(w.pins))
	w.mu.Unlock()
	for _, p := range all {
		out <- p
	}
	close(out)
	return nil
}

func (w member1) Read(_ context.Context, c api.Cid) (api.Pin, placement.Version, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.pins[c.String()]
	if !ok {
		return p, "", pinset.ErrNotFound
	}
	return p, "v", nil
}

func (w member1) Former(context.Context) []string { return nil }

func (w member1) Place(_ context.Context, p api.Pin, _ placement.Version) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away[w.self] {
		return nil // nobody hears of it
	}
	second := time.Now().Unix()
	if w.writes[second] == nil {
		w.writes[second] = map[peer.ID]int{}
	}
	w.writes[second][w.self]++
	w.total++
	w.pins[p.Cid.String()] = p
	return nil
}

// Status says that a copy is there 15 s after it was asked for first.
func (w member1) Status(_ context.Context, c api.Cid) (api.GlobalPinInfo, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	info := api.GlobalPinInfo{PeerMap: map[string]api.PinInfoShort{}}
	for i, one := range w.pins[c.String()].Allocations {
		status := api.TrackerStatusPinned
		if i > 1 && time.Now().Unix()%30 < 15 {
			status = api.TrackerStatusPinning
		}
		info.PeerMap[one.String()] = api.PinInfoShort{Status: status}
	}
	return info, nil
}

// TestAZoneGoesAndComesBack runs six peers with 3,000 pins in virtual time.
func TestAZoneGoesAndComesBack(t *testing.T) {
	const count = 3000
	for _, copies := range []int{2, 3} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{pins: map[string]api.Pin{}, away: map[peer.ID]bool{}, writes: map[int64]map[peer.ID]int{}}
			for i := range count {
				p := newPin(key(i), copies, spread.Rank(key(i).Bytes(), six(), nil)[:copies]...)
				w.pins[p.Cid.String()] = p
			}
			original := maps.Clone(w.pins)
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			for _, c := range six() {
				running.Go(func() {
					Run(ctx, member1{w, c.ID}, Options{Delay: delay, Rate: rate, Self: c.ID, Peers: ids("a1", "a2", "b1", "b2", "c1", "c2")})
				})
			}
			defer running.Wait()
			defer cancel()
			writes := func() int {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.total
			}
			leave := func(names ...string) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.away = map[peer.ID]bool{}
				for _, n := range names {
					w.away[id(n)] = true
				}
			}
			time.Sleep(30 * time.Minute)
			require.Zero(t, writes(), "nothing is to be done")
			for range 20 {
				leave("c1", "c2")
				time.Sleep(delay / 2)
				leave()
				time.Sleep(delay / 2)
			}
			require.Zero(t, writes(), "nothing flaps")

			leave("c1", "c2")
			time.Sleep(30 * time.Minute)
			affected := 0
			w.mu.Lock()
			for c, p := range w.pins {
				if len(without(original[c].Allocations, ids("c1", "c2"))) == copies {
					require.Equal(t, original[c], p, "it lost nothing and is where it was")
					continue
				}
				affected++
				require.Len(t, p.Allocations, copies)
				require.Equal(t, p.Allocations, without(p.Allocations, ids("c1", "c2")))
				require.Len(t, zonesOf(p), 2, "both zones that are left")
			}
			w.mu.Unlock()
			require.Equal(t, affected, writes(), "each was written once")

			leave()
			time.Sleep(30 * time.Minute)
			w.mu.Lock()
			for c, p := range w.pins {
				require.ElementsMatch(t, original[c].Allocations, p.Allocations, "it is back")
				require.Empty(t, p.Metadata)
			}
			for _, by := range w.writes {
				for _, n := range by {
					require.LessOrEqual(t, n, rate, "changes of one peer in a second")
				}
			}
			w.mu.Unlock()
			require.Equal(t, 3*affected, writes(), "once away, and twice to get back: copied, then alone")

			// A part that sees half of the peers or less does nothing.
			before := writes()
			leave("a1", "b1", "c1")
			time.Sleep(30 * time.Minute)
			require.Equal(t, before, writes())
		})
	}
}

func zonesOf(p api.Pin) map[string]bool {
	zones := map[string]bool{}
	for _, c := range six() {
		if slices.Contains(p.Allocations, c.ID) {
			zones[c.Zone] = true
		}
	}
	return zones
}
