// Package kubo asks the IPFS node next to a cluster peer the two things that
// ipfs-cluster's own connector does not: whether it answers right now, and to
// stay connected to the nodes of the other peers.
package kubo
