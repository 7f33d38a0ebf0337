// Package gc puts this distribution's garbage collection (node/gc) and pinning (node/pins) in the place of kubo's.
//
// Repo, Blocks, Locks and Pinner decorate what kubo's node is built of; plugin/blocks calls them. Extend changes the commands. The
// plugin runs the periodic collection of a daemon. kubo's own gc is never called: `repo gc` is replaced, and --enable-gc is
// taken from the daemon's options (Enable).
//
// What it keeps in the repo is the folder gc/touched: see node/touched.
package gc
