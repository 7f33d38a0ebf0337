// Package consensus keeps the pinset in step between the peers: a Merkle-CRDT
// (go-ds-crdt) whose changes are blocks that peers fetch from each other, and
// whose newest ones they announce by gossip.
//
// It takes the place of ipfs-cluster's component of the same name, whose layout
// on disk, topic and settings it keeps, so that peers of both kinds understand
// each other and a folder can change hands. What differs:
//
//   - Its store says what is missing (package frontier), and [Consensus.Announce]
//     makes the consensus look at changes again. Package catchup heals with it
//     what ipfs-cluster only finds again at a restart, or never.
//   - A block that nobody delivers is waited for [fetchTimeout], not two minutes.
//     Meanwhile no other change is taken in, so a peer that dies right after
//     it announced a change holds the others up for that long.
//   - A change costs one sync of the disk where it is made, and none elsewhere.
//   - A pin that was removed and added at the same time stays pinned on the node.
//   - No records in a DHT about where changes are; nobody ever reads them.
//
// Who is on the list of trusted peers may change the pinset, nobody else.
// Changes are logged in groups by package commit, which uses [Consensus.State].
package consensus
