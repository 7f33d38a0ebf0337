package s3model

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The delays that are drawn have the distribution that the model claims.
func TestFirstByteDistribution(t *testing.T) {
	c := newClock(Standard, 1)
	c.dilate(4)
	drawn := make([]float64, 20_000)
	for i := range drawn {
		drawn[i] = c.firstByte(Get).Seconds() * 1000 / 4
	}
	slices.Sort(drawn)
	require.InDelta(t, 25, drawn[len(drawn)/2], 0.5)
	require.InDelta(t, 25*math.Exp(2.326*0.35), drawn[len(drawn)*99/100], 2.5)
}

// Bytes pass as fast as one connection, and as all together, may.
func TestPacing(t *testing.T) {
	class := Standard
	class.ConnBytes, class.ClientBytes = 100, 150
	c := newClock(class, 1)
	c.dilate(2)
	now := time.Now()
	require.Equal(t, now.Add(2*time.Second), c.pass(now, now, 100, 100, down), "100 bytes of one connection: a second, dilated")
	require.InDelta(t, (400.0 / 150), c.pass(now, now, 100, 100, down).Sub(now).Seconds(), 0.001, "two of them: the link")
	require.Equal(t, now.Add(2*time.Second), c.pass(now, now, 100, 100, up), "the other way is free")
}
