// Package gate stands between the clients of the REST API and ipfs-cluster's
// API component, so that a peer can stop without cutting requests off.
//
// The component has no such notion: told to stop, it closes its listeners and
// forgets what is in flight. So it listens on an ephemeral loopback port, and
// the gate, on the address of the settings, passes every request on that package pass
// admits, byte for byte but for its credentials: streaming bodies in both
// directions at once (an add is answered while it is being sent), and trailers. A stream whose trailer
// says that it is not whole breaks off. The price is one copy of the bytes
// over loopback; bodies for which that is too much go to a handler in this
// process when the component has granted the request.
//
// When the gate drains, new requests are answered 503 with Retry-After, and
// those in flight are finished.
package gate
