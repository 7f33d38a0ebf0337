// Package reap collects orphans: processes whose parent has died before them,
// which the kernel gives to the first process of a container. If nobody asked
// how they ended they would stay in the process table for ever. They come from
// commands that somebody runs in the container, and from health checks that
// were broken off.
package reap
