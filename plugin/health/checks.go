package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-datastore"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// checkTimeout bounds each check: below the 5 s after which an ALB gives up on
// a health check by default.
const checkTimeout = 3 * time.Second

// A check is one condition of readiness; it must obey its context.
type check struct {
	name string
	run  func(context.Context) error
}

type result struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

type report struct {
	Ready  bool     `json:"ready"`
	Checks []result `json:"checks"`
}

// leaving is the report of a node that is about to end: it asks nothing, so that
// it does not count as a request to the gateway.
var leaving = report{Checks: []result{{Name: "node", Detail: "shutting down"}}}

func (r report) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !r.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(r)
}

func handler(checks []check, draining func() bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		rep := leaving
		if !draining() {
			rep = runChecks(r.Context(), checks)
		}
		rep.write(w)
	})
	mux.Handle("GET /metrics", promhttp.Handler())
	return mux
}

// runChecks runs all checks side by side, so that the answer takes as long as
// the slowest and never longer than checkTimeout.
func runChecks(ctx context.Context, checks []check) report {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	rep := report{Ready: true, Checks: make([]result, len(checks))}
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			r := result{Name: c.name, OK: true}
			if err := c.run(ctx); err != nil {
				r.OK, r.Detail = false, err.Error()
			}
			rep.Checks[i] = r
		})
	}
	wg.Wait()
	for _, r := range rep.Checks {
		rep.Ready = rep.Ready && r.OK
	}
	return rep
}

// datastoreCheck asks the datastore for its own opinion; stores without one
// are covered by the repo check.
func datastoreCheck(ds datastore.Datastore) func(context.Context) error {
	return func(ctx context.Context) error {
		if checked, ok := ds.(datastore.CheckedDatastore); ok {
			return checked.Check(ctx)
		}
		return nil
	}
}

// repoCheck looks up one file of the repo. A file system that hangs, as a hard
// NFS mount does when its server is gone, holds one goroutine and no more: until
// it answers, the check fails with what it waits for.
func repoCheck(file string, stat func(string) (os.FileInfo, error)) func(context.Context) error {
	var busy sync.Mutex
	return func(ctx context.Context) error {
		if !busy.TryLock() {
			return fmt.Errorf("the file system does not answer for %s", file)
		}
		done := make(chan error, 1)
		go func() {
			defer busy.Unlock()
			_, err := stat(file)
			done <- err
		}()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return fmt.Errorf("the file system does not answer for %s: %w", file, ctx.Err())
		}
	}
}

// gatewayCheck fetches a block that is inlined in its CID ("bafkqaaa", the
// empty identity CID) from the address that kubo writes to the repo once its
// gateway listens.
func gatewayCheck(addressFile string) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}}
	return func(ctx context.Context) error {
		b, err := os.ReadFile(addressFile)
		if errors.Is(err, os.ErrNotExist) {
			return errors.New("the gateway does not listen yet")
		}
		if err != nil {
			return fmt.Errorf("read the gateway's address: %w", err)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(strings.TrimSpace(string(b)), "/")+"/ipfs/bafkqaaa", nil)
		if err != nil {
			return fmt.Errorf("gateway address in %s: %w", addressFile, err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("the gateway answered %s to an inlined block", resp.Status)
		}
		return nil
	}
}
