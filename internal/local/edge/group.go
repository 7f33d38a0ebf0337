package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// TargetConfig names one target of a group.
type TargetConfig struct {
	Name string `json:"name"` // in messages and logs, for example "task-1"
	URL  string `json:"url"`  // where requests go: scheme and host only
	// Ready is asked for readiness with GET: 200 means ready. A JSON body
	// {"checks":[{"name","ok","detail"}]} explains any other answer.
	Ready string `json:"ready"`
}

// GroupConfig describes a set of targets that serve the same thing.
type GroupConfig struct {
	Listen  string         `json:"listen"` // host:port
	Targets []TargetConfig `json:"targets"`
}

// probeTimeout bounds one readiness check. It is far above what a healthy
// target takes (milliseconds), as a machine under load is no reason to drop it.
const probeTimeout = 3 * time.Second

// silentProbes is how many checks in a row may go unanswered before a target
// counts as down. A refused connection or an answer that says "not ready" is
// believed at once; silence may be load.
const silentProbes = 3

// Group is a set of targets, each checked once per interval. It is safe for
// concurrent use.
type Group struct {
	name    string
	targets []*target
	probe   *http.Client

	mu   sync.Mutex
	next int // rotates who wins a tie
}

type target struct {
	name  string
	url   *url.URL
	ready string

	// Guarded by Group.mu.
	up       bool
	reason   string // why it is not up
	silent   int    // checks in a row without an answer
	inFlight int
}

// NewGroup checks the configuration. No target is ready before [Group.Watch]
// has seen it ready.
func NewGroup(name string, cfg GroupConfig) (*Group, error) {
	if len(cfg.Targets) == 0 {
		return nil, fmt.Errorf("%s: no targets", name)
	}
	g := &Group{name: name, probe: &http.Client{
		Timeout:   probeTimeout,
		Transport: &http.Transport{MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}
	for _, t := range cfg.Targets {
		u, err := url.Parse(t.URL)
		if err != nil || u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return nil, fmt.Errorf("%s: target %q: url %q must be of the form http://host:port", name, t.Name, t.URL)
		}
		if r, err := url.Parse(t.Ready); err != nil || r.Scheme != "http" || r.Host == "" {
			return nil, fmt.Errorf("%s: target %q: ready %q must be a URL of the form http://host:port/path", name, t.Name, t.Ready)
		}
		g.targets = append(g.targets, &target{name: t.Name, url: u, ready: t.Ready, reason: "not checked yet"})
	}
	return g, nil
}

// Watch checks all targets, each on its own, at once and then every interval,
// until ctx ends.
func (g *Group) Watch(ctx context.Context, interval time.Duration) {
	var all sync.WaitGroup
	for _, t := range g.targets {
		all.Go(func() {
			tick := time.NewTicker(interval)
			defer tick.Stop()
			for {
				g.check(ctx, t)
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	all.Wait()
	g.probe.CloseIdleConnections()
}

func (g *Group) check(ctx context.Context, t *target) {
	up, reason, answered := g.ask(ctx, t)
	if ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if answered {
		t.silent = 0
	} else if t.silent++; t.silent < silentProbes && t.up {
		return
	}
	t.up, t.reason = up, reason
}

func (g *Group) ask(ctx context.Context, t *target) (up bool, reason string, answered bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.ready, nil)
	if err != nil {
		return false, err.Error(), true
	}
	res, err := g.probe.Do(req)
	if err != nil {
		return false, shortError(err), dialFailed(err) && !os.IsTimeout(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return false, shortError(err), false
	}
	if res.StatusCode == http.StatusOK {
		return true, "", true
	}
	return false, explain(res.StatusCode, body), true
}

// explain puts a "not ready" answer in a few words.
func explain(status int, body []byte) string {
	var answer struct {
		Checks []struct {
			Name   string `json:"name"`
			OK     bool   `json:"ok"`
			Detail string `json:"detail"`
		} `json:"checks"`
	}
	var bad []string
	if json.Unmarshal(body, &answer) == nil {
		for _, c := range answer.Checks {
			if !c.OK {
				bad = append(bad, strings.TrimSpace(c.Name+": "+c.Detail))
			}
		}
	}
	if len(bad) == 0 {
		return fmt.Sprintf("readiness answers %d", status)
	}
	return strings.Join(bad, "; ")
}

// pick reserves the ready target with the fewest requests in flight that is
// not in tried; ties go round. The caller gives it back with release.
func (g *Group) pick(tried map[*target]bool) *target {
	g.mu.Lock()
	defer g.mu.Unlock()
	var best *target
	for i := range g.targets {
		t := g.targets[(g.next+i)%len(g.targets)]
		if t.up && !tried[t] && (best == nil || t.inFlight < best.inFlight) {
			best = t
		}
	}
	if best != nil {
		g.next = (g.next + 1) % len(g.targets)
		best.inFlight++
	}
	return best
}

func (g *Group) release(t *target) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t.inFlight--
}

// markUnreachable takes a target out until its next good check.
func (g *Group) markUnreachable(t *target, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t.up, t.reason = false, shortError(err)
}

// TargetState is what a group knows about one target.
type TargetState struct {
	Name     string `json:"name"`
	Ready    bool   `json:"ready"`
	Reason   string `json:"reason,omitempty"` // why it is not ready
	InFlight int    `json:"inFlight"`
}

// State lists the targets in the configuration's order.
func (g *Group) State() []TargetState {
	g.mu.Lock()
	defer g.mu.Unlock()
	states := make([]TargetState, len(g.targets))
	for i, t := range g.targets {
		states[i] = TargetState{Name: t.name, Ready: t.up, Reason: t.reason, InFlight: t.inFlight}
	}
	return states
}

// Ready says whether at least one target is.
func (g *Group) Ready() bool {
	for _, t := range g.State() {
		if t.Ready {
			return true
		}
	}
	return false
}

// dialFailed says whether no connection could be made.
func dialFailed(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// shortError drops the method and URL that net/http puts in front.
func shortError(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
}
