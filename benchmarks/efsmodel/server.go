package efsmodel

import (
	"maps"
	"sync"
	"time"
)

// Stats is what the server has counted.
type Stats struct {
	// Requests by kind.
	Requests map[Kind]int64
	// Folders has the requests of each folder of the mount's root: a kubo repo's
	// blocks are in "blocks", its leveldb in "datastore". The root's own are in "".
	Folders map[string]map[Kind]int64
	// Bytes transferred.
	BytesRead, BytesWritten int64
	// MeteredRead and MeteredWritten are the bytes that Elastic throughput is billed for.
	MeteredRead, MeteredWritten int64
	// Credits are the burst credits left, in bytes.
	Credits int64
}

// Total returns the number of all requests.
func (s Stats) Total() int64 {
	var n int64
	for _, count := range s.Requests {
		n += count
	}
	return n
}

// USD is what the metered bytes cost with Elastic throughput, in US dollars.
func (s Stats) USD() float64 {
	return ElasticUSD(s.MeteredRead, s.MeteredWritten)
}

// server models what is behind the mount: slots, latencies, bandwidth, meters.
type server struct {
	opts  Options
	slots chan struct{}

	mu    sync.Mutex
	stats Stats
	// dilation may be changed while the server runs: 0 to fill a store quickly.
	dilation float64
	// the times at which the client's link, the file system's throughput and its
	// requests are free again
	linkFree, throughputFree, readsFree, writesFree time.Time
	credited                                        time.Time
}

func newServer(opts Options) *server {
	s := &server{opts: opts, slots: make(chan struct{}, sessionSlots), dilation: opts.Dilation}
	s.reset()
	s.stats.Credits = opts.Throughput.CreditBytes
	s.credited = time.Now()
	return s
}

// reset sets all counters to zero, but for the credits.
func (s *server) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats = Stats{Requests: make(map[Kind]int64), Folders: make(map[string]map[Kind]int64), Credits: s.stats.Credits}
}

func (s *server) snapshot() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Requests = maps.Clone(st.Requests)
	st.Folders = make(map[string]map[Kind]int64, len(s.stats.Folders))
	for folder, counts := range s.stats.Folders {
		st.Folders[folder] = maps.Clone(counts)
	}
	return st
}

func (s *server) setDilation(d float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dilation = d
}

// request takes the time that one request takes. It is called with the locks
// of the kernel held that a real one would hold.
func (s *server) request(folder string, kind Kind, bytes int64) {
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	time.Sleep(time.Until(s.admit(time.Now(), folder, kind, bytes)))
}

// admit counts a request that arrives now and returns when it is answered.
func (s *server) admit(now time.Time, folder string, kind Kind, bytes int64) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Requests[kind]++
	if s.stats.Folders[folder] == nil {
		s.stats.Folders[folder] = make(map[Kind]int64)
	}
	s.stats.Folders[folder][kind]++
	billed, write := metered(kind, bytes)
	if write {
		s.stats.MeteredWritten += billed
	} else {
		s.stats.MeteredRead += billed
	}
	switch kind {
	case Read:
		s.stats.BytesRead += bytes
	case Write:
		s.stats.BytesWritten += bytes
	}
	if s.dilation == 0 {
		return now
	}

	at := now
	p := s.opts.Profile
	occupy := func(free *time.Time, d time.Duration) {
		start := now
		if free.After(start) {
			start = *free
		}
		*free = start.Add(d)
		if free.After(at) {
			at = *free
		}
	}
	if bytes > 0 {
		occupy(&s.linkFree, s.dilate(perSecond(bytes, p.ClientBytes)))
		counted := bytes
		if !write {
			counted /= readShare
		}
		occupy(&s.throughputFree, s.dilate(perSecond(counted, s.rate(now, counted))))
	}
	if s.opts.LimitOps {
		if write {
			occupy(&s.writesFree, s.dilate(perSecond(1, p.WriteOps)))
		} else {
			occupy(&s.readsFree, s.dilate(perSecond(1, p.ReadOps)))
		}
	}
	return at.Add(s.dilate(p.Latency[kind]))
}

func perSecond(n, rate int64) time.Duration {
	return time.Duration(float64(n) / float64(rate) * float64(time.Second))
}

func (s *server) dilate(d time.Duration) time.Duration {
	return time.Duration(float64(d) * s.dilation)
}

// rate is the throughput that the file system has for the next n bytes, in
// bytes a second. In bursting mode, the bytes are paid for with credits.
func (s *server) rate(now time.Time, n int64) int64 {
	t := s.opts.Throughput
	switch t.Mode {
	case "provisioned":
		return t.MiBps << 20
	case "bursting":
		baseline := baseline(t)
		elapsed := now.Sub(s.credited).Seconds() / s.dilation
		s.credited = now
		s.stats.Credits = min(s.stats.Credits+int64(elapsed*float64(baseline)), max(t.CreditBytes, InitialCredits))
		enough := s.stats.Credits >= n
		s.stats.Credits -= n // what moves at the baseline takes what comes in meanwhile
		if !enough {
			return baseline
		}
		return max(burstBytes, t.StoredGiB*(burstBytes>>10))
	default:
		return elasticBytes
	}
}
