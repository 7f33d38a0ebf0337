package ctl

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/ipfs-aws/ipfs-aws/cluster/add"
)

// notReached is the code of an error that no API gave: there was none (see [ExitCode]).
const notReached = 0

// relay puts a relay of this process between ipfs-cluster's client and the API, for as long as the
// process lives, and returns its address. The API's streams end with a line {"error":…} and a broken
// connection when something fails late; the client knows the trailer X-Stream-Error only, and would say
// "unexpected EOF". The relay makes one of the other. It passes credentials on and has none.
//
// The client does not know either who is missing from an add; missing is told, before the answer ends.
func relay(api ma.Multiaddr, secure, insecure bool, missing func([]add.Missing)) (ma.Multiaddr, error) {
	_, host, err := manet.DialArgs(api)
	if err != nil {
		return nil, fmt.Errorf("read the API's address %s: %w", api, err)
	}
	target := &url.URL{Scheme: "http", Host: host}
	transport := &http.Transport{DisableCompression: true}
	if secure {
		target.Scheme = "https"
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: insecure, MinVersion: tls.VersionTLS12}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for ipfs-cluster's client: %w", err)
	}
	quiet := log.New(io.Discard, "", 0) // the client says it
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      quiet,
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode < http.StatusBadRequest {
				r.Body = &lines{res: r, Closer: r.Body, in: bufio.NewReader(r.Body), missing: missing}
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			w.WriteHeader(http.StatusBadGateway)
			_ = json.NewEncoder(w).Encode(map[string]any{"code": notReached, "message": fmt.Sprintf("reach the API at %s: %s", api, err)})
		},
	}
	server := &http.Server{ErrorLog: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // an add is answered while it is sent
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(l) }() // until the process ends
	return manet.FromNetAddr(l.Addr())
}

// lines reads a response. A last line that is an error does not pass; it becomes a trailer.
type lines struct {
	io.Closer
	res  *http.Response
	in   *bufio.Reader
	rest []byte
	err  error
	// missing is told of the line that has a field of this name.
	missing func([]add.Missing)
}

// report looks for who is missing: in the last object of a stream, or of an array.
func (l *lines) report() {
	if !bytes.Contains(l.rest, []byte(`"missing":`)) {
		return
	}
	text := l.rest
	if !bytes.HasPrefix(text, []byte("[")) {
		text = fmt.Appendf(nil, "[%s]", bytes.TrimSpace(text))
	}
	var objects []struct {
		Missing []add.Missing `json:"missing"`
	}
	if json.Unmarshal(text, &objects) == nil && len(objects) > 0 {
		l.missing(objects[len(objects)-1].Missing)
	}
}

func (l *lines) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		if l.err != nil {
			return 0, l.err
		}
		l.rest, l.err = l.in.ReadBytes('\n')
		l.report()
		var said struct {
			Error string `json:"error"`
			Code  int    `json:"code"`
		}
		if !bytes.Contains(l.rest, []byte(`"error":`)) || json.Unmarshal(l.rest, &said) != nil || said.Error == "" || said.Code == 0 {
			continue
		}
		if l.res.Trailer == nil {
			l.res.Trailer = http.Header{}
		}
		l.res.Trailer.Set("X-Stream-Error", said.Error)
		l.rest, l.err = nil, io.EOF
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}
