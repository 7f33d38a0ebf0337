// Package kubo asks the IPFS node next to a cluster peer the things that
// ipfs-cluster's own connector does not: whether it answers right now, to stay
// connected to the nodes of the other peers, and to store many blocks in one
// request, which is a CAR file.
package kubo
