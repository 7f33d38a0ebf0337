// Package health serves a cluster peer's health on a listener of its own,
// without authentication and with nothing else on it:
//
//	GET /livez    200 as long as the process answers
//	GET /readyz   200 or 503, with a JSON account of every check
//	GET /metrics  Prometheus metrics
//
// A check is run in the background at an interval; a request returns the last
// results at once. So probes cost nothing, however many there are, and a check
// that hangs delays no answer: its deadline passes and the check has failed.
//
// Liveness and readiness answer different questions. A peer whose IPFS node is
// down is alive and must not be restarted; it is not ready and gets no traffic.
package health
