// Package edge stands where CloudFront and the load balancer stand in the
// deployment: one listener for the gateway, one for the cluster REST API, each
// spreading requests over the targets that are ready.
//
// Rooms: [Group] is a set of targets with health checks (a target group);
// [Proxy] forwards requests to a group's targets; [Edge] is the process: two
// proxies, a health listener, and the orderly end.
//
// What it promises:
//
//   - Transparent. Method, path, query, Host, body and headers pass as they
//     came, Authorization, Range, Accept, If-None-Match and Content-Encoding
//     included; answers likewise, with trailers. Nothing is cached,
//     decompressed or buffered. X-Forwarded-For is appended to,
//     X-Forwarded-Proto is set unless it is there; hop-by-hop headers are this
//     hop's own.
//   - Both directions stream, at the same time: an add may be answered while
//     its body is still being sent. There is no limit on the size or the
//     duration of a body.
//   - A request goes to the ready target with the fewest requests in flight,
//     and stays there. If that target cannot be reached, or fails before any
//     byte of the body was read, the next one is asked; a GET or HEAD without
//     a body also if the target fails later, as long as no answer has begun.
//   - An answer that breaks off at the target breaks off at the client: the
//     connection is cut, never ended as if the answer were whole.
//   - Nobody ready is answered at once with 503, Retry-After and one line that
//     names each target and what is wrong with it.
//   - The access log holds method, path, target, status, bytes and
//     milliseconds; no query, no header, hence no credentials.
//   - With a certificate both front doors are HTTPS, and X-Forwarded-Proto says so.
//
// A crash of the edge loses requests in flight and nothing else: it has no state.
package edge
