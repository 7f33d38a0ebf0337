package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// timeout is above the 3 s that the slowest check may take, and below the 5 s
// after which ECS gives up by default.
const timeout = 4 * time.Second

// Listener is where a process answers.
type Listener struct {
	// Address is what it listens on, host:port; a host that means every interface
	// is called on loopback.
	Address string
	// Setting names the address, for messages.
	Setting string
}

// Live returns nil if the process answers.
func (l Listener) Live(ctx context.Context) error { return l.ask(ctx, "/livez") }

// Ready returns nil if the process is ready, and else an error that says what is
// missing.
func (l Listener) Ready(ctx context.Context) error { return l.ask(ctx, "/readyz") }

func (l Listener) ask(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	address := loopback(l.Address)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return fmt.Errorf("%s=%q: %w", l.Setting, l.Address, err)
	}
	client := http.Client{Transport: &http.Transport{}} // no proxy between us and ourselves
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("nothing answers at %s: the process is not running, has not got that far, or listens elsewhere (%s): %w", address, l.Setting, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer of %s: %w", address, err)
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode != http.StatusServiceUnavailable:
		return fmt.Errorf("%s answers %s: another program listens there; name the right address with %s", address, resp.Status, l.Setting)
	}
	var report struct {
		Checks []struct {
			Name, Detail string
			OK           bool
		}
	}
	var failed []string
	if json.Unmarshal(body, &report) == nil {
		for _, c := range report.Checks {
			if !c.OK {
				failed = append(failed, c.Name+": "+c.Detail)
			}
		}
	}
	if len(failed) == 0 {
		return errors.New("not ready")
	}
	return errors.New("not ready: " + strings.Join(failed, "; "))
}

// loopback is the address to call for one that is listened on.
func loopback(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}
