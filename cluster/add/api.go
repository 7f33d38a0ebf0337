package add

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/ipfs-cluster/ipfs-cluster/adder"
	"github.com/ipfs-cluster/ipfs-cluster/adder/adderutils"
	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/api/common"
	"github.com/ipfs-cluster/ipfs-cluster/api/rest"
	"github.com/ipfs/go-cid"
	logging "github.com/ipfs/go-log/v2"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
	"github.com/ipfs-aws/ipfs-aws/cluster/place/spread"
)

var logger = logging.Logger("cluster-aws")

// MissingTrailer names the destinations that do not hold the content of an add,
// by name or ID, separated by commas.
const MissingTrailer = "X-Cluster-Missing"

// readBuffer is how many bytes of a request are read at a time.
const readBuffer = 128 << 10

type readCloser struct {
	io.Reader
	io.Closer
}

// Options are what the route needs to know of the cluster.
type Options struct {
	// ReplicationMin is how many copies there must be unless a request says so;
	// -1 for all peers.
	ReplicationMin int
	// Name returns a peer's name, or "".
	Name func(peer.ID) string
	// Host reaches the other peers.
	Host host.Host
	// Node is this peer's IPFS node, Holds what adds hold on it.
	Node  *kubo.Client
	Holds *Holds
}

// NewAPI returns an API component that says 204 to whoever may POST to /add,
// with the listener, credentials and headers of cfg; and the handler that then
// serves the request (see gate.Options).
func NewAPI(ctx context.Context, cfg *rest.Config, opts Options) (*common.API, http.Handler, error) {
	h := &handler{opts: opts}
	var err error
	h.api, err = common.NewAPI(ctx, &cfg.Config, func(c *rpc.Client) []common.Route {
		h.rpc = c
		return []common.Route{{Name: "Add", Method: http.MethodPost, Pattern: "/add", HandlerFunc: h.grant}}
	})
	return h.api, h, err
}

type handler struct {
	api  *common.API
	rpc  *rpc.Client
	opts Options
}

// grant is the component's route. It is reached with credentials only.
//
// upstream: loopback-api
func (h *handler) grant(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNoContent)
}

// added is one object of an answer: ipfs-cluster's, and in the last one who
// does not hold the content.
type added struct {
	api.AddedOutput
	Missing []Missing `json:"missing,omitempty"`
}

// ServeHTTP serves an add.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The parser reads 4 KiB at a time, each a system call without this.
	r.Body = readCloser{bufio.NewReaderSize(r.Body, readBuffer), r.Body}
	reader, err := r.MultipartReader()
	if err != nil {
		h.api.SendResponse(w, http.StatusBadRequest, err, nil)
		return
	}
	params, err := api.AddParamsFromQuery(withDefaults(r.URL.Query()))
	if err != nil {
		h.api.SendResponse(w, http.StatusBadRequest, err, nil)
		return
	}
	h.api.SetHeaders(w)
	if params.Shard {
		// Its errors are in the answer.
		_, _ = adderutils.AddMultipartHTTPHandler(r.Context(), h.rpc, params, reader, w, nil)
		return
	}
	minimum := params.ReplicationFactorMin
	if minimum == 0 {
		minimum = h.opts.ReplicationMin
	}
	fan := newFanout(r.Context(), &overRPC{h.rpc, h.opts.Host, h.opts.Node, h.opts.Holds}, params, minimum)
	defer func() { _ = fan.Close() }() // has nothing to report
	output := make(chan api.AddedOutput, window)
	a := newAnswer(w, params.StreamChannels)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for one := range output {
			a.add(added{AddedOutput: one})
		}
	}()
	if params.Format == "car" {
		err = fan.addCARs(r.Context(), reader, output)
	} else {
		_, err = adder.New(fan, params, output).FromMultipart(r.Context(), reader)
	}
	<-written
	missing := fan.Missing()
	for i := range missing {
		missing[i].Name = h.opts.Name(missing[i].Peer)
	}
	if err != nil {
		logger.Warnf("an add failed: %s", err)
	} else {
		for _, m := range missing {
			logger.Warnf("peer %s (%s) does not hold all of what was added: %s", m.Name, m.Peer, m.Error)
		}
	}
	code := http.StatusInternalServerError
	switch {
	case fan.blames(err):
		code = http.StatusBadRequest
	case err != nil && spread.TooFewPeers(err.Error()):
		code = http.StatusServiceUnavailable
	}
	a.end(missing, code, err)
}

// withDefaults has an add make CIDs of version 1, with raw leaves, unless it says otherwise:
// what `ipfs-aws` tools and a gateway's subdomains use.
func withDefaults(q url.Values) url.Values {
	if q.Get("cid-version") == "" {
		q.Set("cid-version", "1")
	}
	return q
}

// answer writes ipfs-cluster's answer to an add: objects as they come, or an array at the end. It
// holds back the last object, which an add that fails does not get. If it fails before there was
// another, which is always so for a CAR file, the status says so; otherwise the last line is an
// object with the error, and the response breaks off, for clients and proxies that show no trailers.
type answer struct {
	w      http.ResponseWriter
	stream bool
	begun  bool
	last   *added
	all    []added
}

// failedLate is the last line of an add that fails after others were written.
type failedLate struct {
	Error string `json:"error"`
	Code  int    `json:"code"`
}

func newAnswer(w http.ResponseWriter, stream bool) *answer {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	// A client whose add failed half-way is not to go on sending into it.
	h.Set("Connection", "close")
	if stream {
		h.Set("X-Chunked-Output", "1")
		h.Set("Trailer", MissingTrailer)
	}
	return &answer{w: w, stream: stream}
}

func (a *answer) add(one added) {
	if !a.stream {
		a.all = append(a.all, one)
		return
	}
	a.flush()
	a.last = &one
}

func (a *answer) flush() {
	if a.last == nil {
		return
	}
	a.begun = true
	a.write(*a.last)
	a.last = nil
	if f, ok := a.w.(http.Flusher); ok {
		f.Flush()
	}
}

// write sends a value. That the client has gone is noticed by the add itself.
func (a *answer) write(v any) { _ = json.NewEncoder(a.w).Encode(v) }

func (a *answer) end(missing []Missing, code int, err error) {
	if len(missing) > 0 && err == nil {
		var names []string
		for _, m := range missing {
			if m.Name == "" {
				m.Name = m.Peer.String()
			}
			names = append(names, m.Name)
		}
		a.w.Header().Set(MissingTrailer, strings.Join(names, ","))
	}
	switch {
	case err != nil && a.begun:
		a.write(failedLate{Error: strings.ReplaceAll(err.Error(), "\n", "; "), Code: code})
		_ = http.NewResponseController(a.w).Flush() // the client has gone if it fails
		panic(http.ErrAbortHandler)
	case err != nil:
		a.w.Header().Del("Trailer")
		a.w.Header().Del("X-Chunked-Output")
		a.w.WriteHeader(code)
		a.write(api.Error{Code: code, Message: err.Error()})
	case a.stream:
		if a.last != nil {
			a.last.Missing = missing
		}
		a.flush()
	default:
		if n := len(a.all); n > 0 {
			a.all[n-1].Missing = missing
		}
		a.w.WriteHeader(http.StatusOK)
		a.write(a.all)
	}
}

// overRPC is the cluster as its components see it.
type overRPC struct {
	*rpc.Client
	host  host.Host
	node  *kubo.Client
	holds *Holds
}

func (c *overRPC) Self() peer.ID { return c.ID() }

func (c *overRPC) Allocate(ctx context.Context, opts api.PinOptions) ([]peer.ID, error) {
	return adder.BlockAllocate(ctx, c.Client, opts)
}

func (c *overRPC) Pin(ctx context.Context, pin api.Pin) error { return adder.Pin(ctx, c.Client, pin) }

func (c *overRPC) Stream(ctx context.Context, dests []peer.ID, blocks <-chan api.NodeWithMeta) []error {
	if dests[0] == c.Self() {
		_, err := c.node.Import(ctx, take(ctx, blocks))
		if err == nil {
			err = context.Cause(ctx)
		}
		return []error{err}
	}
	errs := make([]error, len(dests))
	car := kubo.NewCAR(take(ctx, blocks))
	if car == nil {
		for i := range errs {
			errs[i] = context.Cause(ctx)
		}
		return errs
	}
	return send(ctx, c.host, dests, car, car.Blocks)
}

func (c *overRPC) Copy(ctx context.Context, dest peer.ID, root cid.Cid, moved func()) error {
	car, err := c.node.ExportCAR(ctx, root)
	if err != nil {
		return err
	}
	defer func() { _ = car.Close() }() // it was read
	return send(ctx, c.host, []peer.ID{dest}, noticed{car, moved}, nil)[0]
}

func (c *overRPC) Hold(ctx context.Context, dest peer.ID, root cid.Cid, check []cid.Cid) (Hold, error) {
	req := holdRequest{Root: root, Check: check}
	if dest != c.Self() {
		return hold(ctx, c.host, dest, req)
	}
	if err := c.holds.take(ctx, req, nil); err != nil {
		return nil, err
	}
	return ownHold{c.holds, root}, nil
}

// noticed calls a function at every read.
type noticed struct {
	io.Reader
	read func()
}

func (n noticed) Read(p []byte) (int, error) {
	n.read()
	return n.Reader.Read(p)
}
