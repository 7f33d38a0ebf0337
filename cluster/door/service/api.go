package service

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/api/common"
	"github.com/ipfs-cluster/ipfs-cluster/api/pinsvcapi"
	clusterstate "github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs/go-cid"
	logging "github.com/ipfs/go-log/v2"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/requests"
	"github.com/ipfs-aws/ipfs-aws/cluster/place/spread"
)

var logger = logging.Logger("cluster-aws")

const (
	// maxBody bounds what a client sends, in bytes: 20 origins, and metadata.
	maxBody = 32 << 10

	// maxRequests bounds the requests for one CID, in bytes of its record: a thousand short ones. A change of
	// the pinset may be 1 MiB.
	maxRequests = 256 << 10
)

// tries is how often a request is written that another peer's, for the same CID and at the same
// moment, has taken the place of.
const tries = 5

// Pins is the pinset.
type Pins interface {
	State(context.Context) (clusterstate.ReadOnly, error)
	// Heads are the newest changes.
	Heads(context.Context) []cid.Cid
	// Drop removes a request, and its pin if it was the last one: see package commit.
	Drop(ctx context.Context, id api.Cid, requestID string) error
	// Agree returns when this peer knows what other peers wrote at the same moment: see package reach.
	Agree(context.Context)
}

type service struct {
	api      *common.API
	rpc      *rpc.Client
	pins     Pins
	index    index
	statuses statuses
	nodes    nodes
}

// New returns the API, with the listener, credentials and headers of cfg.
//
// upstream: rpc-methods
func New(ctx context.Context, cfg *pinsvcapi.Config, pins Pins) (*common.API, error) {
	s := &service{pins: pins}
	s.index.pins = pins
	var err error
	s.api, err = common.NewAPI(ctx, &cfg.Config, func(c *rpc.Client) []common.Route {
		s.rpc, s.statuses.rpc, s.nodes.rpc = c, c, c
		const one = "/pins/{id}"
		return []common.Route{
			{Name: "List", Method: http.MethodGet, Pattern: "/pins", HandlerFunc: s.serve(s.list)},
			{Name: "Add", Method: http.MethodPost, Pattern: "/pins", HandlerFunc: s.serve(s.add)},
			{Name: "Get", Method: http.MethodGet, Pattern: one, HandlerFunc: s.serve(s.get)},
			{Name: "Replace", Method: http.MethodPost, Pattern: one, HandlerFunc: s.serve(s.replace)},
			{Name: "Remove", Method: http.MethodDelete, Pattern: one, HandlerFunc: s.serve(s.remove)},
			{Name: "Health", Method: http.MethodGet, Pattern: "/health", HandlerFunc: s.api.HealthHandler},
		}
	})
	return s.api, err
}

// refusal is an error with its status.
type refusal struct {
	status int
	error
}

func badRequest(err error) error { return refusal{http.StatusBadRequest, err} }

func notFound(id string) error {
	return refusal{http.StatusNotFound, fmt.Errorf("there is no request %q", id)}
}

// failure is the body of an answer that is an error.
type failure struct {
	Error struct {
		Reason  string `json:"reason"`
		Details string `json:"details"`
	} `json:"error"`
}

// Failure is the body of an error, as the specification has it.
func Failure(status int, message string) any {
	var f failure
	f.Error.Reason, f.Error.Details = cmp.Or(reasons[status], "INTERNAL_SERVER_ERROR"), message
	return f
}

var reasons = map[int]string{
	http.StatusBadRequest: "BAD_REQUEST", http.StatusUnauthorized: "UNAUTHORIZED", http.StatusNotFound: "NOT_FOUND", http.StatusServiceUnavailable: "UNAVAILABLE",
}

// serve answers with what a handler returns: nil is no body.
func (s *service) serve(handle func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := handle(r)
		status := http.StatusAccepted
		if r.Method == http.MethodGet {
			status = http.StatusOK
		}
		if err != nil {
			status = http.StatusInternalServerError
			var said refusal
			if errors.As(err, &said) {
				status = said.status
			}
			if status >= http.StatusInternalServerError {
				logger.Warnf("pinning service: %s %s: %s", r.Method, r.URL.Path, err)
			}
			v = Failure(status, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		s.api.SetHeaders(w)
		w.WriteHeader(status)
		if v != nil {
			_ = json.NewEncoder(w).Encode(v) // the client has gone if it fails
		}
	}
}

// pinStatus is a request as a client sees it.
type pinStatus struct {
	RequestID string            `json:"requestid"`
	Status    string            `json:"status"`
	Created   time.Time         `json:"created"`
	Pin       pinShown          `json:"pin"`
	Delegates []string          `json:"delegates"`
	Info      map[string]string `json:"info,omitempty"`
}

type pinShown struct {
	Cid     string            `json:"cid"`
	Name    string            `json:"name,omitempty"`
	Origins []api.Multiaddr   `json:"origins,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
}

func show(c api.Cid, r requests.Request, at int64, st state, delegates []string) pinStatus {
	out := pinStatus{
		RequestID: r.ID, Status: st.status, Created: time.UnixMilli(at).UTC(),
		Pin:       pinShown{Cid: c.String(), Name: r.Name, Origins: r.Origins, Meta: r.Meta},
		Delegates: delegates,
	}
	if st.details != "" {
		out.Info = map[string]string{"status_details": st.details}
	}
	return out
}

// read returns a pin of the pinset and its requests.
func (s *service) read(ctx context.Context, c api.Cid) (p api.Pin, all []requests.Request, found bool, err error) {
	st, err := s.pins.State(ctx)
	if err != nil {
		return p, nil, false, err
	}
	p, err = st.Get(ctx, c)
	if errors.Is(err, clusterstate.ErrNotFound) || err == nil && p.Type != api.DataType {
		return p, nil, false, nil
	}
	if err == nil {
		all, err = requests.Of(p)
	}
	return p, all, err == nil, err
}

// find returns the request with an ID, and its pin.
func (s *service) find(ctx context.Context, id string) (api.Pin, requests.Request, error) {
	c, err := requests.Cid(id)
	if err != nil {
		return api.Pin{}, requests.Request{}, notFound(id)
	}
	p, all, _, err := s.read(ctx, c)
	if err != nil {
		return p, requests.Request{}, err
	}
	for _, r := range all {
		if r.ID == id {
			return p, r, nil
		}
	}
	return p, requests.Request{}, notFound(id)
}

// requestID is the last part of a request's path.
func requestID(r *http.Request) string { return strings.TrimPrefix(r.URL.Path, "/pins/") }

func (s *service) get(r *http.Request) (any, error) {
	id := requestID(r)
	p, one, err := s.find(r.Context(), id)
	if err != nil {
		return nil, err
	}
	st, ok, err := s.statuses.exact(r.Context(), p.Cid, placed(p))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound(id)
	}
	return show(p.Cid, one, one.At, st, s.nodes.of(r.Context(), placed(p).peers)), nil
}

func (s *service) add(r *http.Request) (any, error) {
	c, asked, err := body(r)
	if err != nil {
		return nil, err
	}
	return s.pin(r.Context(), c, asked)
}

func body(r *http.Request) (api.Cid, requests.Request, error) {
	var sent pin
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&sent); err != nil {
		return api.CidUndef, requests.Request{}, badRequest(fmt.Errorf("read the pin, a JSON object of %d bytes at most: %w", maxBody, err))
	}
	c, asked, err := sent.request()
	if err != nil {
		err = badRequest(err)
	}
	return c, asked, err
}

// pin writes a request, with its pin if there is none.
func (s *service) pin(ctx context.Context, c api.Cid, asked requests.Request) (any, error) {
	before := false // the CID was pinned
	for range tries {
		was, _, found, err := s.read(ctx, c)
		if err != nil {
			return nil, err
		}
		before = before || found
		opts := api.PinOptions{Name: asked.Name, Origins: asked.Origins, Mode: api.PinModeRecursive}
		if found {
			opts.ReplicationFactorMin, opts.ReplicationFactorMax = was.ReplicationFactorMin, was.ReplicationFactorMax
			opts.UserAllocations = was.UserAllocations
		}
		if opts.Metadata, err = requests.Set(asked.Meta, []requests.Request{asked}); err != nil {
			return nil, err
		}
		if len(was.Metadata[requests.Key])+len(opts.Metadata[requests.Key]) > maxRequests {
			return nil, badRequest(fmt.Errorf("%s has too many requests: remove some, or replace one", c))
		}
		var p api.Pin
		if err := s.rpc.CallContext(ctx, "", "Cluster", "Pin", api.PinWithOpts(c, opts), &p); err != nil {
			if spread.TooFewPeers(err.Error()) {
				err = refusal{http.StatusServiceUnavailable, err}
			}
			return nil, err
		}
		// What another peer wrote for the same CID at the same moment may have won.
		s.pins.Agree(ctx)
		p, all, found, err := s.read(ctx, c)
		if err != nil {
			return nil, err
		}
		if !found || !slices.ContainsFunc(all, func(one requests.Request) bool { return one.ID == asked.ID }) {
			continue
		}
		st := state{status: queued}
		if before { // the nodes may have it
			if now, ok, err := s.statuses.exact(ctx, c, placed(p)); ok && err == nil {
				st = now
			}
		}
		return show(c, asked, asked.At, st, s.nodes.of(ctx, placed(p).peers)), nil
	}
	return nil, refusal{http.StatusServiceUnavailable, fmt.Errorf("%s is being pinned and unpinned by others at this moment: try again", c)}
}

func (s *service) replace(r *http.Request) (any, error) {
	id := requestID(r)
	old, _, err := s.find(r.Context(), id)
	if err != nil {
		return nil, err
	}
	c, asked, err := body(r)
	if err != nil {
		return nil, err
	}
	out, err := s.pin(r.Context(), c, asked)
	if err != nil {
		return nil, err
	}
	if err := s.drop(r.Context(), old.Cid, id); err != nil {
		return nil, fmt.Errorf("%s is pinned, but the request that it replaces is still there: %w", c, err)
	}
	return out, nil
}

func (s *service) remove(r *http.Request) (any, error) {
	id := requestID(r)
	c, err := requests.Cid(id)
	if err != nil {
		return nil, notFound(id)
	}
	return nil, s.drop(r.Context(), c, id)
}

func (s *service) drop(ctx context.Context, c api.Cid, id string) error {
	for n := range tries {
		err := s.pins.Drop(ctx, c, id)
		switch {
		case errors.Is(err, clusterstate.ErrNotFound) || errors.Is(err, requests.ErrNotFound):
			if n > 0 {
				return nil
			}
			return notFound(id)
		case err != nil:
			return err
		}
		s.pins.Agree(ctx)
		if _, _, err := s.find(ctx, id); errors.As(err, new(refusal)) {
			return nil
		}
	}
	return refusal{http.StatusServiceUnavailable, fmt.Errorf("%s is being pinned and unpinned by others at this moment: try again", c)}
}

// results is the answer to a list.
type results struct {
	Count   int         `json:"count"`
	Results []pinStatus `json:"results"`
}

func (s *service) list(r *http.Request) (any, error) {
	ctx := r.Context()
	q, err := parse(r.URL.Query())
	if err != nil {
		return nil, badRequest(err)
	}
	entries, err := s.candidates(ctx, q)
	if err != nil {
		return nil, err
	}
	states, err := s.statuses.each(ctx, entries)
	if err != nil {
		return nil, err
	}
	out := results{Results: []pinStatus{}}
	delegates := map[string][]string{} // the same few, again and again
	for i, e := range entries {
		if !slices.Contains(q.status, states[i].status) {
			continue
		}
		if len(out.Results) < q.limit {
			_, all, _, err := s.read(ctx, e.cid)
			if err != nil {
				return nil, err
			}
			n := slices.IndexFunc(all, func(r requests.Request) bool { return r.ID == e.id })
			if n < 0 {
				continue // removed a moment ago
			}
			key := fmt.Sprint(e.of.peers)
			if delegates[key] == nil {
				delegates[key] = s.nodes.of(ctx, e.of.peers)
			}
			out.Results = append(out.Results, show(e.cid, all[n], e.at, states[i], delegates[key]))
		}
		out.Count++
	}
	return out, nil
}

// candidates are the requests that fit a query, but for their status.
func (s *service) candidates(ctx context.Context, q query) ([]entry, error) {
	var entries []entry
	if len(q.cids) == 0 {
		var err error
		if entries, err = s.index.all(ctx); err != nil {
			return nil, err
		}
	} else {
		slices.SortFunc(q.cids, func(a, b api.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) })
		for _, c := range slices.CompactFunc(q.cids, api.Cid.Equals) {
			p, _, found, err := s.read(ctx, c)
			if err != nil {
				return nil, err
			}
			if !found {
				continue
			}
			if entries, err = appendRequests(entries, p, placed(p)); err != nil {
				return nil, err
			}
		}
		order(entries)
	}
	var out []entry
	for _, e := range entries {
		if !q.within(e.at) {
			continue
		}
		if q.name != "" || len(q.meta) > 0 {
			_, all, _, err := s.read(ctx, e.cid)
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(all, func(r requests.Request) bool { return r.ID == e.id && q.fits(r) }) {
				continue
			}
		}
		out = append(out, e)
	}
	return out, nil
}

// nodes knows the addresses of the peers' IPFS nodes. It is safe for concurrent use.
type nodes struct {
	rpc *rpc.Client

	mu    sync.Mutex
	known map[peer.ID]node
}

type node struct {
	addresses []string
	asked     time.Time
}

// nodeAge is how long an address is good for: a task that was replaced has another one.
const nodeAge = time.Minute

// of returns where a client may bring the content of a pin: addresses of the nodes that are to
// keep it, of every node if there is no list.
func (n *nodes) of(ctx context.Context, peers []peer.ID) []string {
	if len(peers) == 0 {
		if err := n.rpc.CallContext(ctx, "", "Consensus", "Peers", struct{}{}, &peers); err != nil {
			return []string{}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	out := []string{}
	for _, p := range peers {
		one, ok := n.known[p]
		if !ok || time.Since(one.asked) > nodeAge {
			one = n.ask(ctx, p)
			if n.known == nil {
				n.known = map[peer.ID]node{}
			}
			n.known[p] = one
		}
		out = append(out, one.addresses...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), maxOrigins)]
}

func (n *nodes) ask(ctx context.Context, p peer.ID) node {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	out := node{asked: time.Now()}
	var id api.ID
	if err := n.rpc.CallContext(ctx, p, "Cluster", "ID", struct{}{}, &id); err != nil {
		return out // one that is away helps no client
	}
	// Those that lead furthest: an address of a loopback interface is for tests.
	for _, reaches := range []func(api.Multiaddr) bool{
		func(a api.Multiaddr) bool { return manet.IsPublicAddr(a.Value()) },
		func(a api.Multiaddr) bool { return !manet.IsIPLoopback(a.Value()) },
		func(api.Multiaddr) bool { return true },
	} {
		for _, a := range id.IPFS.Addresses {
			if reaches(a) {
				out.addresses = append(out.addresses, a.String())
			}
		}
		if len(out.addresses) > 0 {
			break
		}
	}
	return out
}
