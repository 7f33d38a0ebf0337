package add

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/ipfs-cluster/ipfs-cluster/adder"
	"github.com/ipfs-cluster/ipfs-cluster/adder/adderutils"
	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/api/common"
	"github.com/ipfs-cluster/ipfs-cluster/api/rest"
	logging "github.com/ipfs/go-log/v2"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/peer"
)

var logger = logging.Logger("cluster-aws")

// MissingTrailer names the destinations that do not hold the content of an add,
// by name or ID, separated by commas.
const MissingTrailer = "X-Cluster-Missing"

// Options are what the route needs to know of the cluster.
type Options struct {
	// ReplicationMin is how many copies there must be unless a request says so;
	// -1 for all peers.
	ReplicationMin int
	// Name returns a peer's name, or "".
	Name func(peer.ID) string
}

// NewAPI returns an API component that serves /add alone, with the listener,
// credentials and headers of cfg.
func NewAPI(ctx context.Context, cfg *rest.Config, opts Options) (*common.API, error) {
	h := &handler{opts: opts}
	var err error
	h.api, err = common.NewAPI(ctx, &cfg.Config, func(c *rpc.Client) []common.Route {
		h.rpc = c
		return []common.Route{{Name: "Add", Method: http.MethodPost, Pattern: "/add", HandlerFunc: h.add}}
	})
	return h.api, err
}

type handler struct {
	api  *common.API
	rpc  *rpc.Client
	opts Options
}

// added is one object of an answer: ipfs-cluster's, and in the last one who
// does not hold the content.
type added struct {
	api.AddedOutput
	Missing []Missing `json:"missing,omitempty"`
}

func (h *handler) add(w http.ResponseWriter, r *http.Request) {
	reader, err := r.MultipartReader()
	if err != nil {
		h.api.SendResponse(w, http.StatusBadRequest, err, nil)
		return
	}
	params, err := api.AddParamsFromQuery(r.URL.Query())
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
	fan := newFanout(r.Context(), &overRPC{h.rpc}, params, minimum)
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
	root, err := adder.New(fan, params, output).FromMultipart(r.Context(), reader)
	<-written
	missing := fan.Missing()
	for i := range missing {
		missing[i].Name = h.opts.Name(missing[i].Peer)
	}
	if err != nil {
		logger.Warnf("an add failed: %s", err)
	} else {
		for _, m := range missing {
			logger.Warnf("peer %s (%s) does not hold the added %s yet: %s", m.Name, m.Peer, root, m.Error)
		}
	}
	a.end(missing, err)
}

// answer writes ipfs-cluster's answer to an add: objects as they come, and
// errors in a trailer; or an array or an error at the end. It holds back the
// last object.
type answer struct {
	w      http.ResponseWriter
	stream bool
	last   *added
	all    []added
}

func newAnswer(w http.ResponseWriter, stream bool) *answer {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	// A client whose add failed half-way is not to go on sending into it.
	h.Set("Connection", "close")
	if stream {
		h.Set("X-Chunked-Output", "1")
		h.Set("Trailer", "X-Stream-Error, "+MissingTrailer)
		w.WriteHeader(http.StatusOK)
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
	a.write(*a.last)
	a.last = nil
	if f, ok := a.w.(http.Flusher); ok {
		f.Flush()
	}
}

// write sends a value. That the client has gone is noticed by the add itself.
func (a *answer) write(v any) { _ = json.NewEncoder(a.w).Encode(v) }

func (a *answer) end(missing []Missing, err error) {
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
	case a.stream:
		if a.last != nil && err == nil {
			a.last.Missing = missing
		}
		a.flush()
		if err != nil {
			a.w.Header().Set("X-Stream-Error", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	case err != nil:
		a.w.WriteHeader(http.StatusInternalServerError)
		a.write(api.Error{Code: http.StatusInternalServerError, Message: err.Error()})
	default:
		if n := len(a.all); n > 0 {
			a.all[n-1].Missing = missing
		}
		a.w.WriteHeader(http.StatusOK)
		a.write(a.all)
	}
}

// overRPC is the cluster as its components see it.
type overRPC struct{ *rpc.Client }

func (c *overRPC) Self() peer.ID { return c.ID() }

func (c *overRPC) Allocate(ctx context.Context, opts api.PinOptions) ([]peer.ID, error) {
	return adder.BlockAllocate(ctx, c.Client, opts)
}

func (c *overRPC) Pin(ctx context.Context, pin api.Pin) error { return adder.Pin(ctx, c.Client, pin) }

func (c *overRPC) Stream(ctx context.Context, dest peer.ID, blocks <-chan api.NodeWithMeta) error {
	replies := make(chan struct{}) // never used by this call
	go func() {
		for range replies {
		}
	}()
	return c.Client.Stream(ctx, dest, "IPFSConnector", "BlockStream", blocks, replies)
}
