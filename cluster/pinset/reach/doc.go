// Package reach lets a change of the pinset be answered when the other peers show it. A
// client that was answered then finds its pin, or does not find it any more, whichever peer
// its next request comes to.
//
// Changes reach the others in some milliseconds anyway. Here the peer that writes one asks
// those that are connected (protocol [Protocol], trusted peers only), and each answers when it
// has applied the change.
//
// This is a courtesy, and no condition: a change is durable and acknowledged without the
// others. So nobody waits longer than [waitFor], and a peer that did not answer in that time,
// because it is paused or busy, is not waited for during the next [leaveAlone]. Peers of former
// releases and of ipfs-cluster are not waited for either.
//
// Two peers that change the same pin at the same moment both succeed, and one change wins. A caller that minds
// asks with [Reach.Agree] and then looks whose it is.
//
// Nothing is kept.
package reach
