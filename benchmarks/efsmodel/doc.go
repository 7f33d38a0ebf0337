// Package efsmodel mounts a directory so that it takes the time, and is billed,
// as if it were on Amazon EFS.
//
// It is a FUSE pass-through. The kernel in front of it does what it does in
// front of an NFS mount: it locks directories while names in them are made,
// and the whole mount while a file is renamed from one to another. That
// matters more than any latency, and could not be modelled in a process alone.
// Behind it, each operation that an NFS 4.1 client would send is one request:
// it waits for one of the session's slots, for the server, and for its share of
// the bandwidth, and is counted and metered. Where each figure comes from is
// said in profile.go and docs/efs-model.md.
//
// What an NFS client keeps to itself is free here: write(2) costs nothing until
// fsync or close, fsync of a directory nothing at all, nor does a lookup that
// belongs to an open, create, rename or mkdir, which NFS sends as one compound.
//
// Time may be dilated: with Dilation 4, everything takes four times as long and
// is reported as if it did not, so that the noise and the speed of the machine,
// which are not dilated, count a quarter. Dilation 0 is no waiting at all, for
// tests that count requests.
//
// A mount needs root and /dev/fuse (see [Available]) and is made in a mount
// namespace of its own ([Isolate]): nobody else sees it, and it goes away with
// the last process in there, however that ends.
//
// Nothing here was measured on EFS itself. Use ratios, and counts.
package efsmodel
