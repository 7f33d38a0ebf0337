package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// traffic is a gateway in virtual time.
type traffic struct {
	at       time.Time
	inFlight func(since time.Duration) float64
	answered func(since time.Duration) float64
}

func (g *traffic) wait() time.Duration {
	start := g.at
	awaitQuiet(func() (float64, float64, error) {
		since := g.at.Sub(start)
		return g.inFlight(since), g.answered(since), nil
	}, func() time.Time { return g.at }, func(d time.Duration) { g.at = g.at.Add(d) })
	return g.at.Sub(start)
}

func nothing(time.Duration) float64 { return 0 }

func TestDrainWaitsForWhoStillAsks(t *testing.T) {
	until := func(end time.Duration) func(time.Duration) float64 {
		return func(since time.Duration) float64 { return min(since, end).Seconds() }
	}
	for name, c := range map[string]struct {
		inFlight, answered func(time.Duration) float64
		want               time.Duration
	}{
		"idle":                     {nothing, nothing, drainAtLeast},
		"asked for one second":     {nothing, until(time.Second), drainAtLeast},
		"asked for six seconds":    {nothing, until(6 * time.Second), 6*time.Second + drainQuiet},
		"asked for ever":           {nothing, until(time.Hour), drainAtMost},
		"one request takes longer": {func(since time.Duration) float64 { return 8 - min(8, float64(since/time.Second)) }, nothing, 7750*time.Millisecond + drainQuiet},
		"one request never ends":   {func(time.Duration) float64 { return 1 }, nothing, drainAtMost},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, (&traffic{inFlight: c.inFlight, answered: c.answered}).wait())
		})
	}
}
