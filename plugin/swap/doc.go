// Package swap changes which store the blocks of a repo are in, so that at every
// moment the repo opens, with the store it had or with the one it gets.
//
// Two files of a kubo repo name the store: config, and datastore_spec, which must
// agree or kubo does not open the repo. Both are replaced by one decision, which is a
// third file:
//
//	Switch writes migrate/switch.json, whole or not at all, synced: the decision
//	       then config, then datastore_spec, then removes it
//	Recover does what is left of that, and is called whenever ipfs-aws starts
//
// A crash before the decision leaves the repo as it was; one after it is made good
// by the next command, before kubo looks at the repo. Each step may be done twice.
//
// Beside that, the folder migrate in the repo holds a Record of the migration that is
// under way, or was the last, and its ledger (see datastore/migrate).
//
// While a daemon runs, the store is changed under it as well: Repo decorates kubo's
// repo, and Live, which it registers under the folder of the repo, lets the keys
// below /blocks go to another store from one moment on. Who is inside of a call on the old
// one finishes there; nobody waits.
package swap
