package chain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/delayed"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// unruly is the way of one process to the bucket: requests are slow, refused, or lose their answers; now and then it pauses before or after one, for up to
// an hour. A request that is older than 15 minutes when it arrives is refused, as S3 does.
type unruly struct {
	bucket.Bucket
	mu     sync.Mutex
	random *rand.Rand
}

const signature = 15 * time.Minute

func (u *unruly) draw(n int) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.random.IntN(n)
}

func (u *unruly) around(write bool, call func() error) error {
	fault := func(kind error) error { return &bucket.Error{Kind: kind} }
	pause := func() {
		switch u.draw(12) {
		case 0:
			time.Sleep(time.Duration(u.draw(3600)) * time.Second)
		case 1:
			time.Sleep(time.Duration(u.draw(10_000)) * time.Millisecond)
		}
	}
	sent := time.Now()
	pause()
	if time.Since(sent) > signature {
		return fault(bucket.ErrAccessDenied)
	}
	switch u.draw(15) {
	case 0:
		return fault(bucket.ErrThrottled) // 409, 503
	case 1:
		return fault(bucket.ErrServer)
	case 2: // the answer is lost
		_ = call()
		pause()
		return fault(bucket.ErrUnreachable)
	case 3: // the client gives up, and the request arrives later
		if !write {
			return fault(bucket.ErrUnreachable)
		}
		wait := time.Duration(u.draw(int(signature/time.Second))) * time.Second
		go func() {
			time.Sleep(wait)
			_ = call()
		}()
		return fault(bucket.ErrUnreachable)
	}
	err := call()
	pause()
	return err
}

func (u *unruly) PutIf(ctx context.Context, k string, body io.ReadSeeker, cond bucket.Condition) (bucket.Info, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return bucket.Info{}, err
	}
	var mu sync.Mutex
	var info bucket.Info
	err = u.around(true, func() error {
		got, err := bucket.PutIf(context.WithoutCancel(ctx), u.Bucket, k, strings.NewReader(string(data)), cond)
		mu.Lock()
		defer mu.Unlock()
		info = got
		return err
	})
	mu.Lock()
	got := info
	mu.Unlock()
	return got, err
}

func (u *unruly) Get(ctx context.Context, k string, r bucket.Range) (body io.ReadCloser, info bucket.Info, err error) {
	err = u.around(false, func() (err error) {
		body, info, err = u.Bucket.Get(ctx, k, r)
		return err
	})
	return body, info, err
}

func (u *unruly) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		var all []bucket.Info
		err := u.around(false, func() error {
			all = nil
			for info, err := range u.Bucket.List(ctx, prefix, after) {
				if err != nil {
					return err
				}
				all = append(all, info)
			}
			return nil
		})
		if err != nil {
			yield(bucket.Info{}, err)
			return
		}
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// done is an operation that was acknowledged.
type done struct {
	session          string
	value            string // "": a confirm
	seq              uint64
	called, returned time.Time
}

// TestHistories: three processes that start, append, confirm, snapshot, trim, die and go over to each other, for days, on a bucket that does whatever a
// bucket may do, with clocks that jump. Afterwards the chain explains everything that was acknowledged.
func TestHistories(t *testing.T) {
	histories := gate.Histories(t, 60, 300, 3000)
	seed := gate.Random(t).Uint64()
	acks, takeovers := 0, 0
	for i := range uint64(histories) {
		synctest.Test(t, func(t *testing.T) {
			a, n := oneHistory(t, seed+i)
			acks, takeovers = acks+a, takeovers+n
		})
		require.False(t, t.Failed(), "history %d", i)
	}
	t.Logf("%d histories: %d acknowledged, %d takeovers", histories, acks, takeovers)
	require.Positive(t, acks)
	require.Greater(t, takeovers, histories)
}

func oneHistory(t *testing.T, seed uint64) (acknowledged, takeovers int) {
	store := mem.New()
	model := delayed.S3()
	model.Seed = seed
	slow := delayed.Wrap(store, model)
	var mu sync.Mutex
	var acks []done
	type tenure struct {
		epoch uint64
		began time.Time // when Open returned
	}
	began := map[string]tenure{}
	var all sync.WaitGroup
	for p := range 3 {
		random := rand.New(rand.NewPCG(seed, uint64(p)))
		u := &unruly{Bucket: slow, random: rand.New(rand.NewPCG(seed, 100+uint64(p)))}
		all.Go(func() {
			jump := time.Duration(0)
			clk := &Clock{realClock().Mono, func() time.Time { return time.Now().Add(jump).Round(0) }}
			for life := range 3 {
				time.Sleep(time.Duration(random.IntN(3600)) * time.Second)
				session := fmt.Sprintf("p%d-%d", p, life)
				c, err := Open(t.Context(), u, root, Options{Node: fmt.Sprint("p", p), Session: session, Clock: clk})
				if err != nil {
					continue
				}
				mu.Lock()
				began[session] = tenure{c.Epoch(), time.Now()}
				mu.Unlock()
				known := content(t, c.State())
				at := c.Next()
				for step := range 12 {
					called := time.Now()
					var err error
					switch random.IntN(7) {
					case 0, 1, 2:
						v := fmt.Sprintf("%s-%d,", session, step)
						var seq uint64
						if seq, err = c.Append(t.Context(), []byte(v)); err == nil {
							mu.Lock()
							acks = append(acks, done{session, v, seq, called, time.Now()})
							mu.Unlock()
							// What came before and was not known to be there is: read it back, as a state machine would.
							for ; at <= seq; at++ {
								r, rerr := read(t.Context(), store, root, at)
								if rerr == nil && r.Session == session {
									for _, part := range r.Parts {
										known += string(part)
									}
								}
							}
						}
					case 3:
						if err = c.Confirm(t.Context()); err == nil {
							mu.Lock()
							acks = append(acks, done{session, "", 0, called, time.Now()})
							mu.Unlock()
						}
					case 4:
						if at == c.Next() {
							err = c.Snapshot(t.Context(), at, strings.NewReader(known))
						}
					case 5:
						err = c.Trim(t.Context())
					case 6:
						time.Sleep(time.Duration(random.IntN(1800)) * time.Second)
						jump = time.Duration(random.IntN(1200)-600) * time.Second
					}
					if errors.Is(err, ErrFenced) {
						break
					}
				}
				if random.IntN(2) == 0 {
					_ = c.Close(t.Context())
				}
				c.Abandon()
			}
		})
	}
	all.Wait()
	time.Sleep(time.Hour) // what was under way arrives
	last, err := Open(t.Context(), store, root, Options{Node: "last"})
	require.NoError(t, err)
	defer last.Abandon()
	text := content(t, last.State())
	count := map[string]int{}
	for v := range strings.SplitSeq(text, ",") {
		count[v+","]++
	}
	for _, a := range acks {
		if a.value != "" {
			require.Equal(t, 1, count[a.value], "%s was acknowledged; the chain has %q", a.value, text)
		}
		for session, other := range began {
			if other.epoch > began[a.session].epoch && other.began.Before(a.called) {
				require.Fail(t, "acknowledged after a takeover", "%+v, after %s took over: %+v", a, session, other)
			}
		}
		for _, o := range acks {
			if a.value != "" && o.value != "" && a.returned.Before(o.called) {
				require.Less(t, a.seq, o.seq, "the order of the chain is that of time")
			}
		}
	}
	return len(acks), len(began)
}
