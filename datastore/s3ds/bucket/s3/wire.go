package s3bucket

import (
	"context"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
)

// Whether a request left decides whether it is paid for: one that is cancelled while it waits for a connection, or just
// when it has one, does not. net/http tells of a request before it is flushed, so the bytes of the connection are counted.

// alert is more than TLS itself sends when a connection is closed, and less than the header of a signed request.
const alert = 64

// countedConn counts the bytes that it has sent.
type countedConn struct {
	net.Conn
	mu   sync.Mutex
	sent int64
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.Conn.Write(p)
	c.sent += int64(n)
	return n, err
}

// count waits for a Write that is under way, which a closed connection ends.
func (c *countedConn) count() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// dialCounted makes a dialer's connections count.
func dialCounted(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &countedConn{Conn: c}, nil
	}
}

// wire follows a request to its connection.
type wire struct {
	on     atomic.Pointer[countedConn]
	before atomic.Int64 // sent on it before
}

func follow(ctx context.Context) (context.Context, *wire) {
	w := &wire{}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		conn := info.Conn
		if tls, ok := conn.(interface{ NetConn() net.Conn }); ok {
			conn = tls.NetConn()
		}
		if c, ok := conn.(*countedConn); ok {
			w.before.Store(c.count())
			w.on.Store(c)
		}
	}}), w
}

// sent reports whether the server got to see a request that failed. Its connection is closed by then, or has answered.
func (w *wire) sent() bool {
	c := w.on.Load()
	return c != nil && c.count()-w.before.Load() > alert
}
