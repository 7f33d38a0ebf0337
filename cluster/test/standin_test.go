package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// standIn answers what a sidecar asks of an IPFS node, and remembers pins. It
// has every content at once. It is for tests of many peers or pins, in which
// real nodes would measure the machine.
type standIn struct {
	mu   sync.Mutex
	pins map[string]bool
}

func serveStandIn(t testing.TB, address string) *standIn {
	s := &standIn{pins: map[string]bool{}}
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	srv := &http.Server{Handler: s}
	go func() { _ = srv.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = srv.Close() })
	return s
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	arg := strings.TrimPrefix(r.URL.Query().Get("arg"), "/ipfs/")
	switch strings.TrimPrefix(r.URL.Path, "/api/v0/") {
	case "version":
		_, _ = io.WriteString(w, `{"Version":"0.42.0"}`)
	case "id":
		_, _ = io.WriteString(w, `{"ID":"12D3KooWGRUj9nYxVwRJwPMBcVJVRDGbXXHuZK2CPz7E4NsZ4Ujq","Addresses":[]}`)
	case "repo/stat":
		_, _ = io.WriteString(w, `{"RepoSize":1000,"StorageMax":10000000000}`)
	case "pin/add":
		s.pins[arg] = true
		_, _ = fmt.Fprintf(w, `{"Pins":[%q]}`+"\n", arg)
	case "pin/rm":
		delete(s.pins, arg)
		_, _ = fmt.Fprintf(w, `{"Pins":[%q]}`+"\n", arg)
	case "pin/ls":
		if arg != "" {
			if !s.pins[arg] {
				w.WriteHeader(http.StatusInternalServerError)
				_ = json.NewEncoder(w).Encode(map[string]any{"Message": "path '" + arg + "' is not pinned", "Code": 0, "Type": "error"})
				return
			}
			_, _ = fmt.Fprintf(w, `{"Cid":%q,"Type":"recursive"}`+"\n", arg)
			return
		}
		for cid := range s.pins {
			_, _ = fmt.Fprintf(w, `{"Cid":%q,"Type":"recursive"}`+"\n", cid)
		}
	default:
		_, _ = io.WriteString(w, `{}`)
	}
}
