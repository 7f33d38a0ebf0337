// Package s3model stands between a blockstore and a real S3 server, takes the time that S3 takes, and counts what S3 would
// bill. Every figure of the model, with its source and date, is in figures.go and nowhere else.
//
// A [Proxy] is one listener for one store: its counters are that store's requests and nobody else's. A request is
//
//  1. classed (PUT, GET, HEAD, LIST, DELETE), counted, and priced;
//  2. refused with 503 SlowDown if its prefix has had more of them than S3 serves in a second;
//  3. refused with 403 if it would overspend the budget, which counts real servers only;
//  4. delayed until the first byte that the class's distribution draws, and then streamed no faster than one connection, and
//     all connections together, may;
//  5. signed anew for the server behind, so that any client works against any server, and a store needs no credentials.
//
// Dilation slows all of this down, and 0 switches the waiting and SlowDown off. Counting never stops.
package s3model
