package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/requests"
)

// The bounds that the specification sets.
const (
	maxLimit     = 1000
	defaultLimit = 10
	maxName      = 255
	maxCids      = 10
	maxOrigins   = 20
)

// The states of a request.
const (
	queued  = "queued"
	pinning = "pinning"
	pinned  = "pinned"
	failed  = "failed"
)

// query is what a list is to have in it.
type query struct {
	cids          []api.Cid
	name, match   string
	status        []string
	before, after time.Time
	limit         int
	meta          map[string]string
}

func parse(q url.Values) (query, error) {
	out := query{name: q.Get("name"), match: q.Get("match"), limit: defaultLimit}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, text := range list(q["cid"]) {
		id, err := api.DecodeCid(text)
		if err != nil {
			bad("cid: %q is not a CID: %w", text, err)
			continue
		}
		out.cids = append(out.cids, id)
	}
	if n := len(out.cids); n > maxCids {
		bad("cid: %d are given, %d can be asked for at a time", n, maxCids)
	}
	if len(out.name) > maxName {
		bad("name is longer than %d bytes", maxName)
	}
	switch out.match {
	case "":
		out.match = "exact"
	case "exact", "iexact", "partial", "ipartial":
	default:
		bad("match=%s: use exact, iexact, partial or ipartial", out.match)
	}
	for _, text := range list(q["status"]) {
		if !slices.Contains([]string{queued, pinning, pinned, failed}, text) {
			bad("status: %q is not one of queued, pinning, pinned and failed", text)
		}
		out.status = append(out.status, text)
	}
	if len(out.status) == 0 {
		out.status = []string{pinned}
	}
	for name, to := range map[string]*time.Time{"before": &out.before, "after": &out.after} {
		text := q.Get(name)
		if text == "" {
			continue
		}
		var err error
		if *to, err = time.Parse(time.RFC3339Nano, text); err != nil {
			bad("%s=%s: use a time such as 2030-01-31T12:00:00.123Z", name, text)
		}
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			bad("limit=%s: use a number from 1 to %d", text, maxLimit)
		}
		out.limit = n
	}
	if text := q.Get("meta"); text != "" {
		if err := json.Unmarshal([]byte(text), &out.meta); err != nil {
			bad("meta: use a JSON object of strings: %w", err)
		}
	}
	return out, errors.Join(errs...)
}

// list returns the values of a parameter that is a list, given once or several times.
func list(values []string) []string {
	if len(values) == 0 {
		return nil
	}
	return slices.DeleteFunc(strings.Split(strings.Join(values, ","), ","), func(s string) bool { return s == "" })
}

// fits reports whether a request has the name and the metadata that are asked for.
func (q query) fits(r requests.Request) bool {
	for k, v := range q.meta {
		if has, ok := r.Meta[k]; !ok || has != v {
			return false
		}
	}
	if q.name == "" {
		return true
	}
	switch q.match {
	case "iexact":
		return strings.EqualFold(r.Name, q.name)
	case "partial":
		return strings.Contains(r.Name, q.name)
	case "ipartial":
		return strings.Contains(strings.ToLower(r.Name), strings.ToLower(q.name))
	}
	return r.Name == q.name
}

// within reports whether a request is from the time that is asked for.
func (q query) within(at int64) bool {
	t := time.UnixMilli(at)
	return (q.before.IsZero() || t.Before(q.before)) && (q.after.IsZero() || t.After(q.after))
}

// pin is what a client sends.
type pin struct {
	Cid     string            `json:"cid"`
	Name    string            `json:"name"`
	Origins []string          `json:"origins"`
	Meta    map[string]string `json:"meta"`
}

// request returns the CID and the request that a client's pin stands for.
func (p pin) request() (api.Cid, requests.Request, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	id := api.CidUndef
	if p.Cid == "" {
		bad("cid is missing")
	} else if c, err := api.DecodeCid(p.Cid); err != nil {
		bad("cid: %q is not a CID: %w", p.Cid, err)
	} else {
		id = c
	}
	if len(p.Name) > maxName {
		bad("name is longer than %d bytes", maxName)
	}
	if n := len(p.Origins); n > maxOrigins {
		bad("origins: %d are given, %d can be", n, maxOrigins)
	}
	var origins []api.Multiaddr
	for _, text := range p.Origins {
		a, err := api.NewMultiaddr(text)
		if err != nil {
			bad("origins: %q is not a multiaddress: %w", text, err)
			continue
		}
		origins = append(origins, a)
	}
	for k := range p.Meta {
		if strings.HasPrefix(k, requests.Prefix) {
			bad("meta: %q is a name of the cluster's own: use another one", k)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return api.CidUndef, requests.Request{}, err
	}
	r := requests.New(id)
	r.Name, r.Meta, r.Origins = p.Name, p.Meta, origins
	return id, r, nil
}
