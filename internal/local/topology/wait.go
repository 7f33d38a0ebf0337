package topology

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ipfs-aws/ipfs-aws/internal/local/edge"
	"github.com/ipfs-aws/ipfs-aws/internal/local/process"
)

const (
	pollInterval = 100 * time.Millisecond
	stillWaiting = 5 * time.Second // between two lines that say so
)

// poller asks over HTTP; no proxy from the environment, no idle connections.
var poller = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// await polls until ask has no complaint left. It gives up when ctx ends, when
// the process that it waits for ends, or after the start timeout, and then
// says what the last complaint was.
func (u *up) await(ctx context.Context, what string, p *process.Process, ask func(context.Context) error) error {
	start := time.Now()
	nextLine := start.Add(stillWaiting)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		complaint := ask(ctx)
		if complaint == nil {
			return nil
		}
		if waited := time.Since(start); waited > u.opt.StartTimeout {
			return fmt.Errorf("%s is not ready after %s (%w): look in %s, or grant more time with --start-timeout",
				what, u.opt.StartTimeout, complaint, p.Log())
		}
		if time.Now().After(nextLine) {
			nextLine = time.Now().Add(stillWaiting)
			u.opt.Progress(fmt.Sprintf("still waiting for %s: %v", what, complaint))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.Done():
			return p.Err()
		case <-tick.C:
		}
	}
}

// askReady asks a readiness endpoint.
func askReady(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		body, status, err := fetch(ctx, url, "", "")
		if err != nil {
			return err
		}
		if status == http.StatusOK {
			return nil
		}
		return fmt.Errorf("it answers %d: %s", status, shorten(body))
	}
}

// askPeers asks a sidecar whether it sees as many peers as there are tasks.
func (u *up) askPeers(t *task) func(context.Context) error {
	return func(ctx context.Context) error {
		body, status, err := fetch(ctx, baseURL(t.ports.API)+"/peers", u.state.User, u.state.Password)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("it answers %d: %s", status, shorten(body))
		}
		seen := 0
		d := json.NewDecoder(strings.NewReader(string(body)))
		for {
			var peer struct {
				Error string `json:"error"`
			}
			if err := d.Decode(&peer); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return fmt.Errorf("it answers %s", shorten(body))
			}
			if peer.Error == "" {
				seen++
			}
		}
		if seen < len(u.tasks) {
			return fmt.Errorf("it sees %d of %d peers", seen, len(u.tasks))
		}
		return nil
	}
}

// askEdge asks the edge whether it has every target ready.
func (u *up) askEdge(ctx context.Context) error {
	body, _, err := fetch(ctx, baseURL(u.ports.EdgeHealth)+"/readyz", "", "")
	if err != nil {
		return err
	}
	var status edge.Status
	if err := json.Unmarshal(body, &status); err != nil {
		return fmt.Errorf("it answers %s", shorten(body))
	}
	for _, targets := range [][]edge.TargetState{status.Gateway, status.API} {
		for _, t := range targets {
			if !t.Ready {
				return fmt.Errorf("%s: %s", t.Name, t.Reason)
			}
		}
	}
	return nil
}

func fetch(ctx context.Context, url, user, password string) (body []byte, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	res, err := poller.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return body, res.StatusCode, err
}

// shorten makes a body fit in a line.
func shorten(body []byte) string {
	s := strings.Join(strings.Fields(string(body)), " ")
	const longest = 300
	if len(s) > longest {
		return s[:longest] + "…"
	}
	return s
}
