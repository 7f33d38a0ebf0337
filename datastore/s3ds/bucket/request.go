package bucket

import "time"

// Request is one request that was sent over the network, as the implementation that sent it saw it when it was over. A
// call of Bucket is one request at best; retries, resumed downloads and pages of a list are requests of their own, and each is paid for.
type Request struct {
	Op       Op
	Status   int           // HTTP status, 0 if no answer came
	Failed   bool          // no complete answer, or a status that says so; a miss (404 on get and head) is no failure
	Throttle bool          // the server asked for fewer requests
	Retry    bool          // another attempt at what failed before
	Sent     int64         // bytes of body sent, as far as they were read
	Received int64         // bytes of body received
	Latency  time.Duration // from sending to the header of the answer, or to the failure
}
