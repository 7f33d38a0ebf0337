package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPaceOfALongCommand(t *testing.T) {
	for want, p := range map[string]progressEvent{
		"":                             {},
		", 10 MiB/s":                   {Bytes: 100 << 20},
		", 10 MiB/s, 25%, 30s left":    {Bytes: 100 << 20, TotalBytes: 400 << 20},
		", 20 MiB/s, 20%, 40s left":    {Bytes: 200 << 20, Objects: 2, TotalObjects: 10},
		", 40 MiB/s":                   {Bytes: 400 << 20, TotalBytes: 400 << 20},
		", 1.0 MiB/s, 10%, 1m30s left": {Bytes: 10 << 20, TotalBytes: 100 << 20},
	} {
		require.Equal(t, want, p.pace(10*time.Second))
	}
	require.Empty(t, progressEvent{Bytes: 1, TotalBytes: 2}.pace(time.Millisecond), "too early to tell")
}
