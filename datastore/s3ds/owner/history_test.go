package owner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// slow lets time pass around the moment at which a request takes effect.
type slow struct {
	bucket.Bucket
	w *world

	mu     sync.Mutex
	delays []time.Duration // of what comes next
}

func (s *slow) set(delays ...time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delays = delays
}

func (s *slow) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.delays) > 0 {
		s.w.pass(s.delays[0])
		s.delays = s.delays[1:]
	}
}

func (s *slow) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (bucket.Info, error) {
	s.pass()
	defer s.pass()
	return bucket.PutIf(ctx, s.Bucket, key, body, cond)
}

func (s *slow) Get(ctx context.Context, key string, r bucket.Range) (io.ReadCloser, bucket.Info, error) {
	s.pass()
	defer s.pass()
	return s.Bucket.Get(ctx, key, r)
}

// TestNeverTwo: whatever nodes with wrong clocks do, and however long requests take, whose answers may be lost, at no time do two of
// them believe that they own the prefix; and when all goes well again somebody can.
func TestNeverTwo(t *testing.T) {
	for range gate.Rounds(2, 15, 100) { // some bugs show in one of thousands of histories
		rapid.Check(t, neverTwo)
	}
}

func neverTwo(rt *rapid.T) {
	w := newWorld()
	b := &slow{Bucket: w.b, w: w}
	// Times near to those at which something changes.
	duration := rapid.Custom(func(rt *rapid.T) time.Duration {
		return rapid.SampledFrom([]time.Duration{0, DefaultLease / 3, DefaultLease * 2 / 3, DefaultLease, DefaultLease + grace}).Draw(rt, "about") +
			time.Duration(rapid.IntRange(0, 2000).Draw(rt, "ms"))*time.Millisecond
	})
	const nodes = 2
	var live [nodes]*Owner
	skew := func(i int) time.Duration { return time.Duration(2*i-1) * 17 * time.Hour }
	legal := func(err error) {
		if err != nil && !errors.Is(err, errDown) && !errors.Is(err, ErrOwned) && !errors.Is(err, ErrReplaced) && !errors.Is(err, ErrReleased) {
			rt.Fatalf("unexpected: %v", err)
		}
	}
	node := func(rt *rapid.T) int { return rapid.IntRange(0, nodes-1).Draw(rt, "node") }
	rt.Repeat(map[string]func(*rapid.T){
		"time":          func(rt *rapid.T) { w.pass(duration.Draw(rt, "time")) },
		"slow requests": func(rt *rapid.T) { b.set(rapid.SliceOfN(duration, 1, 4).Draw(rt, "delays")...) },
		"lose answers": func(rt *rapid.T) {
			w.bad.Set(faulty.Rule{Op: rapid.SampledFrom([]bucket.Op{bucket.OpPut, bucket.OpGet}).Draw(rt, "op"),
				Times: rapid.IntRange(1, 2).Draw(rt, "times"), Err: errDown, Late: rapid.Bool().Draw(rt, "late")})
		},
		"start": func(rt *rapid.T) {
			i := node(rt)
			if live[i] != nil {
				live[i].end() // killed
				live[i].idle()
				live[i] = nil
			}
			o, err := Acquire(rt.Context(), b, w.node(fmt.Sprint("node", i), skew(i)))
			legal(err)
			live[i] = o
		},
		"hold": func(rt *rapid.T) {
			if o := live[node(rt)]; o != nil {
				err := o.Hold(rt.Context())
				o.idle()
				legal(err)
				if err == nil && o.Status().Replaced {
					// found out in the background, while its lease was good
					legal(o.Hold(rt.Context()))
				}
			}
		},
		"release": func(rt *rapid.T) {
			i := node(rt)
			if o := live[i]; o != nil {
				legal(o.Release(rt.Context()))
				live[i] = nil
			}
		},
		"": func(rt *rapid.T) {
			holders := ""
			n := 0
			for i, o := range live {
				if o != nil && o.Status().Left > 0 && !o.Status().Replaced {
					holders += fmt.Sprintf(" node%d", i)
					n++
				}
			}
			if n > 1 {
				rt.Fatalf("all of these own the prefix:%s", holders)
			}
		},
	})
	b.set()
	w.bad.Set()
	w.pass(2 * DefaultLease)
	o, err := Acquire(rt.Context(), b, w.node("heir", 0))
	if err == nil {
		err = o.Hold(rt.Context())
	}
	if err != nil {
		rt.Fatalf("nobody uses the prefix any more, and it cannot be had: %v", err)
	}
}
