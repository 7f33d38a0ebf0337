// Package gateway serves kubo's HTTP gateway, so that an answer never looks whole when it is not.
//
// kubo answers an error in the middle of a CAR with a header that arrives nowhere and a response
// that ends well, which a CDN keeps for a year. Its errors show the public what the store said:
// bucket, prefix, advice to the operator. Here
//
//   - a response that could not be finished breaks the connection off;
//   - an error of the node (5xx) has a body that says what the public can use: a code, and the id of
//     the request, under which the log has the reason. It may not be kept by caches;
//   - a client that takes nothing for [stall] is cut off.
//
// The plugin takes the gateway's addresses from the config that the daemon of kubo sees, listens on
// them itself, and serves with the options that kubo would have used. Everything else stays kubo's.
package gateway
