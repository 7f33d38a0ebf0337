// Package health is the kubo plugin that answers whether the node is alive and
// ready, on a listener of its own, so that the admin RPC need not be reachable
// for monitoring.
//
// It listens only while a daemon runs or starts (see [Open]), and only when an
// address is given, by the environment (IPFS_HEALTH_ADDRESS=127.0.0.1:8099) or by the repo's config:
//
//	"Plugins": {"Plugins": {"health": {"Config": {"Address": "127.0.0.1:8099"}}}}
//
// Three paths are served, none with credentials and none that changes anything:
//
//	GET /livez    200 as long as the process answers, from its first second on
//	GET /readyz   200 when every check passes, else 503; the body is JSON:
//	              {"ready": false, "checks": [{"name": "blockstore", "ok": false, "detail": "…"}]}
//	GET /metrics  Prometheus, the same registry as kubo's own metrics
//
// After [Drain] /readyz answers 503, and the rest goes on: a node in a container
// serves for some seconds after it was told to end.
//
// The checks are: "node" (started and not shutting down), "repo" (its file
// system answers), "blockstore" (the
// datastore's own opinion, through its Check method: an s3 blockstore remembers
// how its latest requests ended and asks S3 only when they failed, so a healthy
// idle node costs no request) and "gateway" (a block inlined in its CID is
// served over HTTP, which touches no storage; left out when no gateway is
// configured).
package health
