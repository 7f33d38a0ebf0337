// Package catchup says whether this peer's pinset holds everything that the
// other peers' do, and sees to it that it comes to.
//
// Peers tell each other their newest changes on request (protocol [Protocol],
// trusted peers only). [Catchup.Check] asks all that are connected, and this peer
// has caught up when it has applied all of those, and everything that it has
// heard of (package frontier). Which is to say:
//
//   - A peer that is away is not waited for, once it was tried. If all are away,
//     what is here is all there is. One that is connected and does not answer is
//     waited for as long as a slow one may take ([silentFor]).
//   - A change that nobody who answers has is not waited for either. It comes
//     when its peer comes back.
//   - After it had caught up once, a peer may be behind by what is on its way,
//     as long as it gets ahead: it would be behind at every check under load. It
//     has fallen behind when nothing has come for [stuckAfter].
//   - A process that was paused has to catch up like one that has just started.
//
// What does not come by itself within [healAfter] is announced to the own
// consensus again, from the change that links to it; that heals a history whose
// fetching was broken off. Only changes that this peer or one that answers holds
// are taken up, at most [healAtOnce] at a time, and each one at doubling
// intervals. So a change that cannot be had costs nothing but the question.
//
// The healing, not the check, answers go-ds-crdt's issue 279: see package frontier.
//
// upstream: crdt-faults
package catchup
