package gate

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// recorder takes note of what a request is answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	user   string
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status < http.StatusOK {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status < http.StatusOK {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

// Flush implements http.Flusher.
func (r *recorder) Flush() { _ = http.NewResponseController(r.ResponseWriter).Flush() } // the client has gone if it fails

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// line writes one request to the log, in the Common Log Format. One that was broken off says so at the end.
func (r *recorder) line(to io.Writer, req *http.Request, began time.Time, brokenOff bool) {
	user := r.user
	if user == "" {
		user = "-"
	}
	end := ""
	if brokenOff {
		end = " broken off"
	}
	fmt.Fprintf(to, "%s - %s [%s] %q %d %d%s\n", client(req), user, began.Format("02/Jan/2006:15:04:05 -0700"),
		req.Method+" "+req.URL.RequestURI()+" "+req.Proto, r.status, r.bytes, end)
}

// client is the address that a request comes from. Behind a load balancer that is the last one in
// X-Forwarded-For, which the balancer adds; what is before it may be made up.
func client(r *http.Request) string {
	if all := r.Header.Values("X-Forwarded-For"); len(all) > 0 {
		hops := strings.Split(all[len(all)-1], ",")
		// With a port, if the balancer is told to keep it.
		last := strings.TrimSpace(hops[len(hops)-1])
		if host, _, err := net.SplitHostPort(last); err == nil {
			last = host
		}
		if net.ParseIP(last) != nil {
			return last
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
