// Package history fetches the changes of a pinset from other peers, many at a
// time.
//
// A change is a block that links to the changes before it, so a peer that starts
// with nothing learns what it lacks one change after the other, and bitswap asks
// for each in a round trip of its own. 100,000 pins are tens of thousands of round
// trips. Here a peer asks for a change and what is before it in one request
// (protocol [Protocol], trusted peers only): for the change alone when it was
// announced, and for four times as many at each further step back, up to
// [mostChanges].
//
// [Getter] stands in front of bitswap. What comes ahead of its need is kept in
// memory, at most [aheadBytes] twice over, and is handed to the block service when
// the consensus asks for it: so the store holds only what is being applied, and
// bitswap serves it on. A change that no peer gives is waited for with bitswap,
// and asked for here again every second; whichever answers first is taken. What is
// forgotten, or lost in a crash, is asked for again.
package history
