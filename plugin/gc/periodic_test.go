package gc

import (
	"testing"
	"time"

	"github.com/ipfs/kubo/config"
	"github.com/stretchr/testify/require"
)

func TestWhenADaemonCollects(t *testing.T) {
	var cfg config.Config
	cfg.Datastore.StorageMax, cfg.Datastore.GCPeriod = "100GB", "10m"
	l, err := newLimits(&cfg)
	require.NoError(t, err)
	require.Equal(t, 10*time.Minute, l.period)
	const gb = 1_000_000_000
	now := time.Now()
	require.False(t, l.due(90*gb, now), "at the watermark")
	require.True(t, l.due(90*gb+1, now))
	l.ran(95*gb, true, now)
	require.True(t, l.due(95*gb, now.Add(time.Minute)), "what was too young goes as soon as it is old enough")
	l.ran(95*gb, false, now)
	require.False(t, l.due(95*gb, now.Add(time.Hour)), "all of it is needed")
	require.True(t, l.due(96*gb, now.Add(time.Hour)), "there is something new")
	require.True(t, l.due(95*gb, now.Add(24*time.Hour)))
	l.ran(50*gb, false, now)
	require.False(t, l.due(89*gb, now))
	require.True(t, l.due(91*gb, now.Add(time.Minute)))

	cfg.Datastore.StorageMax = "1PB"
	l, err = newLimits(&cfg)
	require.NoError(t, err)
	require.True(t, l.due(1, now), "without a limit once a day")
	l.ran(1, false, now)
	require.False(t, l.due(500*gb, now.Add(23*time.Hour)))
	require.True(t, l.due(1, now.Add(24*time.Hour)))

	cfg.Datastore.StorageMax = "much"
	_, err = newLimits(&cfg)
	require.ErrorContains(t, err, "Datastore.StorageMax")
}
