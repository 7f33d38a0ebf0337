//go:build !linux

package touched

import "time"

var started = time.Now()

func bootClock() Time { return Time(time.Since(started)) }

// bootID: other systems' histories begin with each start.
func bootID() string { return "" }
