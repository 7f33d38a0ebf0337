// Package owner keeps two nodes from writing under one prefix: an object in the bucket names the node that may, for as long as
// its lease lasts.
//
//	o, err := owner.Acquire(ctx, bucket, owner.Options{Key: "ipfs/.ipfs-aws-owner", ID: "n3k7q", Host: "ip-10-0-1-7"})
//	err = o.Hold(ctx) // before anything is acknowledged or removed
//	err = o.Release(ctx)
//
// # The object
//
// It is created if there is none, and replaced only by who has read it (If-None-Match, If-Match), so of any number of nodes one
// succeeds. Each write of it begins the lease anew.
//
//	{"version":1,"id":"n3k7q","host":"ip-10-0-1-7","session":"KSOV…","epoch":3,"renewal":17,"leaseSeconds":60,"since":"2026-11-23T15:14:00Z"}
//
// A node whose id is in the object takes it back at once: it is the successor of itself, which the lock on its folder vouches for. Any
// other node waits until the lease has run out, and then takes it over with a higher epoch.
//
// # No clock is trusted
//
// Who takes over judges the age of the object by the server alone: the time of the answer less the time of the last write (grace
// makes up for both being cut to the second). Who holds judges by the time that has passed here since *before* the write was sent, on
// the monotonic and on the wall clock, whichever says more (the first stands still while a machine sleeps). So a holder gives up
// before anybody else can begin, whatever their clocks say, as long as they run at the same speed within grace.
//
// # What it costs
//
// Acquire is one GET, and a PUT if the object has to change hands. Hold is nothing while the lease is good, and one PUT when less
// than a third of it is left. Nobody renews what nobody uses: an idle node asks nothing, and learns at its next Hold whether it
// was replaced meanwhile (ErrReplaced, for good).
//
// # Limits
//
// Between a Hold that returned and what it was asked for the process may be stopped, and wake up when another node owns the prefix. What a
// node then adds is harmless, for names of packs carry their writer. What it removes must be what only its own index speaks of; Until bounds such a request in time.
// Of two copies of one folder on two machines, which share an id, each takes the object from the other; the one that lost finds out
// at its next renewal.
//
// A crash leaves the object as it was. An Owner is safe for concurrent use.
package owner
