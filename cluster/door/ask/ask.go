// Package ask looks at what a client asks the REST API for, before anything is done: a mistake is
// answered with 400 and a sentence. ipfs-cluster takes some mistakes silently, and answers others
// with 500, as if the fault were the cluster's.
package ask

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	chunk "github.com/ipfs/boxo/chunker"
	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/cluster/place/spread"
)

var logger = logging.Logger("cluster-aws")

// Cluster is what a request is held against.
type Cluster struct {
	// Peers are those that there are; empty if it is not known.
	Peers []peer.ID
	// Min and Max are how many copies there are if a request does not say; -1 for one on each peer.
	Min, Max int
}

// Check returns what is wrong with a request, or nil. It does not read the body.
func (c Cluster) Check(r *http.Request) error {
	if r.Method == http.MethodGet {
		return filters(r.URL.Path, r.URL.Query())
	}
	if r.Method != http.MethodPost {
		return nil
	}
	switch path := r.URL.Path; {
	case path == "/add":
		q := r.URL.Query()
		return errors.Join(c.pinOptions(q), addOptions(q))
	case strings.HasPrefix(path, "/pins/") && !strings.HasSuffix(path, "/recover"):
		return c.pinOptions(r.URL.Query())
	}
	return nil
}

// filters refuses the parameters that a list does not have: ipfs-cluster would answer with everything.
func filters(path string, q url.Values) error {
	known := map[string][]string{"/pins": {"cids", "filter", "local"}, "/allocations": {"filter"}}[path]
	if known == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s is no parameter of %s: use %s", name, path, strings.Join(known, ", "))
		}
	}
	return nil
}

// maxAnswer bounds an error, in bytes.
const maxAnswer = 64 << 10

// Answer writes to the log what the component answers with 500. It makes 503 of the 500 with which ipfs-cluster says that there are too few peers for a pin: the
// next attempt may succeed.
func (c Cluster) Answer(r *http.Response) error {
	if r.StatusCode != http.StatusInternalServerError {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer))
	if err := errors.Join(err, r.Body.Close()); err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var said api.Error
	err = json.Unmarshal(body, &said)
	if r.Request != nil {
		logger.Warnf("REST API: %s %s failed: %s", r.Request.Method, r.Request.URL.Path, cmp.Or(said.Message, string(body)))
	}
	if err != nil || !spread.TooFewPeers(said.Message) {
		return nil
	}
	said.Code = http.StatusServiceUnavailable
	if body, err = json.Marshal(said); err != nil {
		return err
	}
	r.StatusCode, r.Status = said.Code, http.StatusText(said.Code)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

func (c Cluster) pinOptions(q url.Values) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if mode := q.Get("mode"); !slices.Contains([]string{"", "recursive", "direct"}, mode) {
		bad("mode=%s: use recursive or direct", mode)
	}
	least, most := c.Min, c.Max
	for _, p := range []struct {
		name string
		to   []*int
	}{{"replication", []*int{&least, &most}}, {"replication-min", []*int{&least}}, {"replication-max", []*int{&most}}} {
		text := q.Get(p.name)
		if text == "" || p.name != "replication" && q.Get("replication") != "" {
			continue
		}
		n, err := strconv.Atoi(text)
		switch {
		case err != nil || n < -1:
			bad("%s=%s: use a number of copies, or -1 for one on each peer", p.name, text)
			continue
		case n > len(c.Peers) && len(c.Peers) > 0:
			bad("%s=%d: the cluster has %d peers", p.name, n, len(c.Peers))
		}
		for _, to := range p.to {
			if n != 0 { // as if it were not there
				*to = n
			}
		}
	}
	if len(errs) == 0 && least > most && most > 0 || least == -1 && most > 0 {
		bad("replication-min=%d is more than replication-max=%d: give both, or replication alone", least, most)
	}
	if text := q.Get("expire-at"); text != "" {
		var at time.Time
		if err := at.UnmarshalText([]byte(text)); err != nil {
			bad("expire-at=%s: use a time such as 2030-01-31T12:00:00Z", text)
		} else if !at.After(time.Now()) {
			bad("expire-at=%s is over", text)
		}
	} else if text := q.Get("expire-in"); text != "" {
		if d, err := time.ParseDuration(text); err != nil || d < time.Second {
			bad("expire-in=%s: use a duration of a second or more, such as 720h", text)
		}
	}
	if text := q.Get("user-allocations"); text != "" {
		for one := range strings.SplitSeq(text, ",") {
			id, err := peer.Decode(strings.TrimSpace(one))
			switch {
			case err != nil:
				bad("user-allocations: %q is not a peer ID", one)
			case len(c.Peers) > 0 && !slices.Contains(c.Peers, id):
				bad("user-allocations: %s is not a peer of this cluster", id)
			}
		}
	}
	return errors.Join(errs...)
}

func addOptions(q url.Values) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if text := q.Get("chunker"); text != "" {
		if _, err := chunk.FromString(strings.NewReader(""), text); err != nil {
			bad("chunker=%s: %w: use for example size-262144, rabin-16384-65536-131072 or buzhash", text, err)
		}
	}
	hash := q.Get("hash")
	if _, known := mh.Names[strings.ToLower(hash)]; hash != "" && !known {
		bad("hash=%s is not known: use for example sha2-256 or blake3; all are: %s", hash, strings.Join(slices.Sorted(maps.Keys(mh.Names)), " "))
	}
	switch version := q.Get("cid-version"); {
	case !slices.Contains([]string{"", "0", "1"}, version):
		bad("cid-version=%s: use 1 or 0", version)
	case version == "0" && hash != "" && !strings.EqualFold(hash, "sha2-256"):
		bad("hash=%s needs cid-version=1", hash)
	}
	return errors.Join(errs...)
}
