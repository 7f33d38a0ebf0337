// Package memlimit makes Go's garbage collector work harder before the kernel
// kills: it finds how much memory the container may have (its cgroup) and sets
// the soft limit of the heap, as GOMEMLIMIT does, below it. A GOMEMLIMIT that
// somebody has set is left as it is.
package memlimit
