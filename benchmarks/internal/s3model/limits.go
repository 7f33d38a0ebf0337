package s3model

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// clock draws delays and shares out what a class has per second. The caller says what time it is.
type clock struct {
	class Class

	mu       sync.Mutex
	dilation float64
	random   *rand.Rand
	linkFree [2]time.Time // of all connections together, to the server and from it
	allowed  map[bool]*bucket
}

// The two directions of the link.
const (
	up   = 0
	down = 1
)

// bucket is a token bucket of one second's worth of requests: S3 averages, it does not count single instants.
type bucket struct {
	rate, tokens float64
	filled       time.Time
}

func newClock(c Class, seed uint64) *clock {
	return &clock{class: c, random: rand.New(rand.NewPCG(seed, 3)), allowed: map[bool]*bucket{
		false: {rate: c.Reads, tokens: c.Reads},
		true:  {rate: c.Writes, tokens: c.Writes},
	}}
}

func writes(op Op) bool { return op == Put || op == Delete }

// admit says whether S3 would serve a request that arrives now, or answer SlowDown.
func (c *clock) admit(now time.Time, op Op) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dilation == 0 {
		return true
	}
	b := c.allowed[writes(op)]
	if !b.filled.IsZero() {
		b.tokens = min(b.rate, b.tokens+now.Sub(b.filled).Seconds()/c.dilation*b.rate)
	}
	b.filled = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// firstByte draws how long a request takes until its answer begins.
func (c *clock) firstByte(op Op) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(float64(c.class.FirstByte[op]) * math.Exp(c.class.Sigma*c.random.NormFloat64()) * c.dilation)
}

// pass says when n more bytes have passed, of a request that has moved some since it began: as fast as one connection, and all of
// them together, may.
func (c *clock) pass(now, began time.Time, n, moved int64, way int) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dilation == 0 {
		return now
	}
	conn := began.Add(c.seconds(float64(moved) / c.class.ConnBytes))
	start := now
	if c.linkFree[way].After(start) {
		start = c.linkFree[way]
	}
	c.linkFree[way] = start.Add(c.seconds(float64(n) / c.class.ClientBytes))
	if c.linkFree[way].After(conn) {
		return c.linkFree[way]
	}
	return conn
}

func (c *clock) seconds(s float64) time.Duration {
	return time.Duration(s * c.dilation * float64(time.Second))
}

func (c *clock) dilate(d float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dilation = d
	c.linkFree = [2]time.Time{}
}
