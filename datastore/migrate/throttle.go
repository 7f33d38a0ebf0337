package migrate

import (
	"context"
	"sync"
	"time"
)

// throttle makes readers and writers wait. Safe for concurrent use.
type throttle struct {
	bandwidth, requests float64 // per second; 0: no bound
	cost                func() Cost

	mu    sync.Mutex
	free  time.Time // when the bytes so far will have passed
	begun time.Time
	base  uint64 // requests before
}

// step is how often somebody who waits looks again.
const step = 20 * time.Millisecond

func newThrottle(o Options) *throttle {
	return &throttle{bandwidth: o.Bandwidth, requests: o.MaxRequests, cost: o.Cost, begun: time.Now(), base: o.Cost().Requests}
}

// bytes waits until n more bytes may pass.
func (t *throttle) bytes(ctx context.Context, n int64) error {
	if t.bandwidth == 0 {
		return nil
	}
	t.mu.Lock()
	now := time.Now()
	if t.free.Before(now) {
		t.free = now
	}
	at := t.free
	t.free = at.Add(time.Duration(float64(n) / t.bandwidth * float64(time.Second)))
	t.mu.Unlock()
	return sleep(ctx, at.Sub(now))
}

// request waits until one more request may be sent. A second's worth may be sent at once.
func (t *throttle) request(ctx context.Context) error {
	for t.requests > 0 {
		allowed := t.requests * (1 + time.Since(t.begun).Seconds())
		if float64(t.cost().Requests-t.base) < allowed {
			break
		}
		if err := sleep(ctx, step); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
