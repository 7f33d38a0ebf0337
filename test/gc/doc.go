// Package gc tests garbage collection with the built binary: a storm of adders, pins, restarts and collections, and each fault that
// kubo's collection had.
//
// TestStorm runs for STORM_TIME for each blockstore (a few seconds without it, five minutes in `make test-storm`). STORM_PROGRAM names
// another binary: with one that was built with the tag gc_unprotected, or with kubo's own collection, the storm loses content.
package gc
