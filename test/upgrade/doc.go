// Package upgrade takes repos that the release before this one made, and lets this
// one go on with them.
//
// `make former` builds that release from its commit. Its counterpart for a running
// cluster is in cluster/test.
package upgrade
