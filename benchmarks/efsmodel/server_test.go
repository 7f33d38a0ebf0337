package efsmodel

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func testServer(tp Throughput, dilation float64) *server {
	return newServer(Options{Profile: OneZone, Throughput: tp, Dilation: dilation})
}

// answered returns how long after now a request is answered.
func answered(s *server, now time.Time, kind Kind, bytes int64) time.Duration {
	return s.admit(now, "", kind, bytes).Sub(now)
}

func TestLatencyAndDilation(t *testing.T) {
	for _, dilation := range []float64{0, 1, 4} {
		s := testServer(Throughput{Mode: "elastic"}, dilation)
		now := time.Now()
		for _, kind := range Kinds {
			want := time.Duration(float64(OneZone.Latency[kind]) * dilation)
			require.InDelta(t, want, answered(s, now, kind, 0), float64(time.Microsecond), kind)
		}
	}
}

// Requests share the client's link: the second megabyte comes after the first.
func TestClientLink(t *testing.T) {
	s := testServer(Throughput{Mode: "elastic"}, 1)
	now := time.Now()
	each := time.Second / 500
	for i := range 10 {
		got := answered(s, now, Read, 1<<20) - OneZone.Latency[Read]
		require.InDelta(t, time.Duration(i+1)*each, got, float64(50*time.Microsecond))
	}
}

func TestProvisionedThroughput(t *testing.T) {
	s := testServer(Throughput{Mode: "provisioned", MiBps: 10}, 1)
	now := time.Now()
	require.InDelta(t, time.Second/10, answered(s, now, Write, 1<<20)-OneZone.Latency[Write], float64(time.Millisecond))
	// A byte read counts a third.
	s = testServer(Throughput{Mode: "provisioned", MiBps: 10}, 1)
	require.InDelta(t, time.Second/30, answered(s, now, Read, 1<<20)-OneZone.Latency[Read], float64(time.Millisecond))
}

// While there are credits a small file system moves 100 MiB/s, and then its
// baseline, 1 MiB/s at least, with which credits come back.
func TestBurstCredits(t *testing.T) {
	s := testServer(Throughput{Mode: "bursting", CreditBytes: 10 << 20}, 1)
	now := s.credited
	for range 10 {
		answered(s, now, Write, 1<<20)
	}
	require.Zero(t, s.snapshot().Credits)
	require.InDelta(t, 100*time.Millisecond, s.throughputFree.Sub(now), float64(time.Millisecond))
	now = s.throughputFree
	s.credited = now
	answered(s, now, Write, 1<<20)
	require.InDelta(t, time.Second, s.throughputFree.Sub(now), float64(time.Millisecond))
	// An hour later at 1 MiB/s there are 3,600 MiB.
	now = now.Add(time.Hour)
	answered(s, now, Write, 1<<20)
	require.InDelta(t, 3599<<20, s.snapshot().Credits, 2<<20)
	// A larger file system has a higher baseline: 50 KiB/s for each GiB.
	s = testServer(Throughput{Mode: "bursting", StoredGiB: 200}, 1)
	now = s.credited
	answered(s, now, Write, 10<<20)
	require.InDelta(t, 1024*time.Millisecond, s.throughputFree.Sub(now), float64(5*time.Millisecond))
}

// Without credits a file system that is never idle gets its baseline and no more: what comes in meanwhile is used up.
func TestCreditsDoNotComeInWhileTheBaselineIsUsed(t *testing.T) {
	s := testServer(Throughput{Mode: "bursting"}, 1)
	began := s.credited
	for now := began; now.Sub(began) < time.Minute; now = s.throughputFree {
		answered(s, now, Write, 1<<20)
	}
	require.InDelta(t, time.Minute, s.throughputFree.Sub(began), float64(time.Second))
	require.EqualValues(t, 60, s.snapshot().Requests[Write])
}

func TestLimitOfRequests(t *testing.T) {
	s := testServer(Throughput{Mode: "elastic"}, 1)
	s.opts.LimitOps = true
	now := time.Now()
	var last time.Duration
	for range 7000 {
		last = answered(s, now, Create, 0)
	}
	require.InDelta(t, time.Second, last-OneZone.Latency[Create], float64(10*time.Millisecond))
}

func TestMetering(t *testing.T) {
	s := testServer(Throughput{Mode: "elastic"}, 0)
	for _, r := range []struct {
		kind  Kind
		bytes int64
	}{{Create, 0}, {Write, 4096}, {Rename, 0}, {Close, 0}, {Read, 4096}, {Read, 100_000}} {
		s.request("blocks", r.kind, r.bytes)
	}
	st := s.snapshot()
	require.EqualValues(t, 4<<10+32<<10+4<<10, st.MeteredWritten)
	require.EqualValues(t, 4<<10+32<<10+98<<10, st.MeteredRead)
	require.EqualValues(t, 6, st.Total())
	require.EqualValues(t, 4096, st.BytesWritten)
	require.EqualValues(t, 104_096, st.BytesRead)
	require.InDelta(t, (40960*0.06+137216*0.03)/(1<<30), st.USD(), 1e-12)
	require.EqualValues(t, 2, st.Folders["blocks"][Read])
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Backing: "/a", Mountpoint: "/b", Profile: Regional, Throughput: Throughput{Mode: "elastic"}}
	require.NoError(t, good.Validate())
	for _, spoil := range []func(*Options){
		func(o *Options) { o.Backing = "" },
		func(o *Options) { o.Mountpoint = "" },
		func(o *Options) { o.Profile = Profile{} },
		func(o *Options) { o.Dilation = -1 },
		func(o *Options) { o.Throughput.Mode = "fast" },
		func(o *Options) { o.Throughput.Mode = "provisioned" },
	} {
		bad := good
		spoil(&bad)
		require.Error(t, bad.Validate())
	}
	for _, p := range Profiles {
		for _, kind := range Kinds {
			require.Positive(t, p.Latency[kind], "%s %s", p.Name, kind)
		}
		found, err := FindProfile(p.Name)
		require.NoError(t, err)
		require.Equal(t, p.Name, found.Name)
	}
	_, err := FindProfile("zone")
	require.Error(t, err)
}

func TestLimitOfBurstingIsItsBaselineWithoutCredits(t *testing.T) {
	require.EqualValues(t, 100*50<<10, LimitBytes(OneZone, Throughput{Mode: "bursting", StoredGiB: 100}))
	require.EqualValues(t, 1<<20, LimitBytes(OneZone, Throughput{Mode: "bursting", StoredGiB: 1}), "the least there is")
	require.EqualValues(t, 100<<20, LimitBytes(OneZone, Throughput{Mode: "bursting", StoredGiB: 100, CreditBytes: InitialCredits}))
}
