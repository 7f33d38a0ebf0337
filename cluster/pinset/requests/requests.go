// Package requests keeps what clients of the pinning service have asked for in the pins that it
// made. The pinset has one pin for a CID; the pinning service has as many requests for it as clients made,
// each with an ID, a time, a name and metadata of its own. They are a value of the pin's metadata
// ([Key]), so they are written, sent to the other peers and removed together with the pin.
//
// A pin that the pinning service did not make stands for one request, [Implicit].
package requests

import (
	"cmp"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/placement"
)

const (
	// Prefix is what the keys of a pin's metadata begin with that are not the client's.
	Prefix = "cluster-aws-"
	// Key is the key of a pin's metadata that has its requests.
	Key = Prefix + "requests"
)

// ErrNotFound is the error of a request that a pin does not stand for.
var ErrNotFound = errors.New("there is no such request")

// Request is one request for a pin.
type Request struct {
	ID      string            `json:"id"`
	At      int64             `json:"at"` // milliseconds since 1970, which is what clients in JavaScript can say
	Name    string            `json:"name,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
	Origins []api.Multiaddr   `json:"origins,omitempty"`
}

var clock struct {
	sync.Mutex
	last int64
}

// New returns a request for a CID that arrives now. Its time is after that of every other one that this
// process has made.
func New(id api.Cid) Request {
	clock.Lock()
	clock.last = max(clock.last+1, time.Now().UnixMilli())
	at := clock.last
	clock.Unlock()
	unique := make([]byte, 10)
	_, _ = rand.Read(unique) // never fails
	return Request{ID: id.String() + "-" + strings.ToLower(base32.StdEncoding.EncodeToString(unique)), At: at}
}

// Cid returns the CID that a request with this ID is for.
func Cid(requestID string) (api.Cid, error) {
	text, _, _ := strings.Cut(requestID, "-")
	return api.DecodeCid(text)
}

// Of returns the requests that a pin stands for, at least one, from the oldest to the newest.
func Of(pin api.Pin) ([]Request, error) {
	text, made := pin.Metadata[Key]
	if !made {
		return []Request{Implicit(pin)}, nil
	}
	var out []Request
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, fmt.Errorf("read the requests of the pin %s: %w", pin.Cid, err)
	}
	if len(out) == 0 {
		out = append(out, Implicit(pin))
	}
	return out, nil
}

// Implicit returns the request of a pin that the pinning service did not make. Its ID is the CID. A
// record has its time in seconds; what is below the second is a hash of the CID, because the pinning service's
// lists need a time that no other request has.
func Implicit(pin api.Pin) Request {
	h := fnv.New64a()
	_, _ = h.Write(pin.Cid.Bytes()) // never fails
	below := int64(binary.BigEndian.Uint64(h.Sum(nil)) % 1000)
	return Request{ID: pin.Cid.String(), At: pin.Timestamp.Unix()*1000 + below, Name: pin.Name, Meta: Client(pin.Metadata), Origins: pin.Origins}
}

// Client returns the part of a pin's metadata that is the client's.
func Client(metadata map[string]string) map[string]string {
	out := maps.Clone(metadata)
	maps.DeleteFunc(out, func(k, _ string) bool { return strings.HasPrefix(k, Prefix) })
	return out
}

// Keep returns the metadata of a former record with the requests of a new one that says nothing else.
func Keep(former, now map[string]string) map[string]string {
	text, ok := now[Key]
	if !ok {
		return former
	}
	out := maps.Clone(former)
	if out == nil {
		out = map[string]string{}
	}
	out[Key] = text
	return out
}

// Set returns a pin's metadata with these requests.
func Set(metadata map[string]string, all []Request) (map[string]string, error) {
	slices.SortFunc(all, func(a, b Request) int { return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.ID, b.ID)) })
	text, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	out := maps.Clone(metadata)
	if out == nil {
		out = map[string]string{}
	}
	out[Key] = string(text)
	return out, nil
}

// Merge returns a pin that takes the place of another one with the same CID, with the requests of both. If
// neither comes from the pinning service, it is the pin itself.
func Merge(was, pin api.Pin) (api.Pin, error) {
	_, before := was.Metadata[Key]
	_, now := pin.Metadata[Key]
	if !before && !now {
		return pin, nil
	}
	all, err := Of(was)
	if err != nil {
		return pin, err
	}
	if now {
		more, err := Of(pin)
		if err != nil {
			return pin, err
		}
		for _, r := range more {
			if !slices.ContainsFunc(all, func(one Request) bool { return one.ID == r.ID }) {
				all = append(all, r)
			}
		}
	}
	pin.Metadata, err = Set(pin.Metadata, all)
	return pin, err
}

// Without returns a pin without one of its requests, and false if it was the only one. The pin's own name
// and metadata become those of the newest request that is left. If it does not stand for the
// request, the error is [ErrNotFound].
func Without(pin api.Pin, requestID string) (left api.Pin, any bool, err error) {
	all, err := Of(pin)
	if err != nil {
		return pin, false, err
	}
	n := len(all)
	all = slices.DeleteFunc(all, func(r Request) bool { return r.ID == requestID })
	switch len(all) {
	case n:
		return pin, false, ErrNotFound
	case 0:
		return pin, false, nil
	}
	newest := all[len(all)-1]
	pin.Name, pin.Origins = newest.Name, newest.Origins
	pin.Metadata, err = Set(placement.Homed(newest.Meta, ""), all)
	return pin, true, err
}
