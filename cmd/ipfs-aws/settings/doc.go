// Package settings turns the environment and the flags of ipfs-aws into one
// checked value, and a checked value into what stands in a repo's config.
//
// Three steps, each of which can be called alone:
//
//   - [Load] reads every variable once and checks all of them, with the
//     datastores' own parsers where a setting is a datastore's. All problems come
//     back together, as [environ.Problems].
//   - [Settings.Plan] compares the result with the config of a repo, and with
//     what the repo was made with (its file datastore_spec). It returns the
//     changes to make, or a [Moved] if blocks would have to move for it. It
//     changes nothing.
//   - [Plan.Write] replaces the config file, and datastore_spec if need be. A
//     crash leaves each of them whole; the next start with the same settings does
//     what is left.
//
// What is not set leaves the config as it is: without IPFS_BLOCKSTORE nothing is
// said about the blocks, and a config edited by hand stays. With it, the store
// of the blocks is what the settings say and nothing else, except that what
// belongs to the data and is not set (region and layout of the same bucket, path
// and shard function of files), or is where some of it lies (journal, index and
// cache of the same prefix), is taken from the repo.
//
// Secrets are never written to the repo, and never part of a problem, a change
// or a command that is shown.
//
// [Table] lists all settings; docs/settings.md is made from it.
package settings
