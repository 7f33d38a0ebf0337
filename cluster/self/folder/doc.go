// Package folder keeps what belongs to the folder of one cluster peer as such:
// who it belongs to, and that one process uses it at a time.
//
//	cluster.lock       an fcntl lock on it is held by the running daemon, or by a
//	                   command that writes; the file itself stays for ever
//	cluster-aws.json   the marker: which peer the folder belongs to (no secrets)
//	identity.json      only without a seed: the peer's private key, in
//	                   ipfs-cluster's format
//	pebble/            the pinset (package store)
//
// Lock and identity file have ipfs-cluster's names and formats, so that its
// tools and ours keep out of each other's way on a folder that they share.
//
// The kernel drops the lock when its holder dies, however it dies, on local
// disks as on NFS. So a lock file that is present means nothing, and nobody may
// delete it.
//
// A crash during [Folder.Adopt] leaves the folder either without a marker (the
// next start writes it) or with a whole one: it is written aside, synced and
// renamed.
package folder
