package chain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// Kind is what a record is for.
type Kind string

// The kinds of records.
const (
	Takeover Kind = "takeover" // the session of the record owns the chain from here on
	Data     Kind = "data"     // parts, whose meaning is the caller's
	Closed   Kind = "closed"   // the session ended and writes nothing more
)

const (
	recordVersion = 1
	// maxHeader holds the lengths of maxParts parts, 9 bytes each, and 400 bytes of names.
	maxHeader = 16 << 10
	// maxParts and maxGroup bound what one append carries: a PUT of 4 MiB takes 45 ms at 90 MB/s, about as long as its first byte.
	maxParts = 1000
	maxGroup = 4 << 20
)

// Record is one record of a chain.
type Record struct {
	Seq     uint64
	Session string    // of the process: random
	Node    string    // whose process it is
	Host    string    // where it ran, for people
	Epoch   uint64    // grows by one with each takeover
	Kind    Kind      //
	Nonce   string    // random, so that a writer knows its own record again, and no two have the same bytes
	At      time.Time // by the clock of the writer, for people
	Parts   [][]byte  // one for each caller of Append that shares the record

	Modified, Clock time.Time // what the server said: when the record was written, and what time it was when it was read
}

// header is the first line of a record.
type header struct {
	Version int       `json:"v"`
	Session string    `json:"session"`
	Node    string    `json:"node"`
	Host    string    `json:"host"`
	Epoch   uint64    `json:"epoch"`
	Kind    Kind      `json:"kind"`
	Nonce   string    `json:"n"`
	At      time.Time `json:"at"`
	Parts   []int     `json:"parts,omitempty"` // bytes of each
}

func (r Record) encode() ([]byte, error) {
	h := header{recordVersion, r.Session, r.Node, r.Host, r.Epoch, r.Kind, r.Nonce, r.At.UTC().Truncate(time.Second), nil}
	for _, p := range r.Parts {
		h.Parts = append(h.Parts, len(p))
	}
	line, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(line) >= maxHeader {
		return nil, fmt.Errorf("header of a record of %d bytes: at most %d are possible", len(line), maxHeader-1)
	}
	return append(append(line, '\n'), bytes.Join(r.Parts, nil)...), nil
}

func decode(b []byte) (Record, error) {
	line, rest, ok := bytes.Cut(b, []byte{'\n'})
	if !ok || len(line) >= maxHeader {
		return Record{}, errors.New("it has no header")
	}
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return Record{}, fmt.Errorf("its header: %w", err)
	}
	switch {
	case h.Version != recordVersion:
		return Record{}, fmt.Errorf("it has version %d, this release reads %d: a newer release wrote it, use that one", h.Version, recordVersion)
	case h.Session == "" || h.Nonce == "" || h.Epoch == 0 || h.Kind != Takeover && h.Kind != Data && h.Kind != Closed:
		return Record{}, errors.New("its header is not one of a record")
	}
	r := Record{Session: h.Session, Node: h.Node, Host: h.Host, Epoch: h.Epoch, Kind: h.Kind, Nonce: h.Nonce, At: h.At}
	for _, n := range h.Parts {
		if n < 0 || n > len(rest) {
			return Record{}, errors.New("it is cut short")
		}
		r.Parts, rest = append(r.Parts, rest[:n]), rest[n:]
	}
	if len(rest) > 0 {
		return Record{}, fmt.Errorf("it has %d bytes too many", len(rest))
	}
	return r, nil
}

const (
	digits     = 12
	snapPrefix = "snap-"
)

func key(root string, seq uint64) string { return fmt.Sprintf("%s/%0*x", root, digits, seq) }
func snapKey(root string, seq uint64) string {
	return fmt.Sprintf("%s/%s%0*x", root, snapPrefix, digits, seq)
}

// parseKey returns what an object under the root is; ok is false for one of another kind, which is left alone.
func parseKey(root, k string) (seq uint64, snap, ok bool) {
	name, ok := strings.CutPrefix(k, root+"/")
	if !ok {
		return 0, false, false
	}
	name, snap = strings.CutPrefix(name, snapPrefix)
	if len(name) != digits || strings.ToLower(name) != name {
		return 0, false, false
	}
	seq, err := strconv.ParseUint(name, 16, 64)
	return seq, snap, err == nil
}

// read fetches one record.
func read(ctx context.Context, b bucket.Bucket, root string, seq uint64) (Record, error) {
	k := key(root, seq)
	data, info, err := readObject(ctx, b, k, maxHeader+maxGroup)
	if err != nil {
		return Record{}, err
	}
	r, err := decode(data)
	if err != nil {
		return Record{}, fmt.Errorf("%w: object %q: %w", ErrDamaged, k, err)
	}
	r.Seq, r.Modified, r.Clock = seq, info.Modified, info.Clock
	return r, nil
}

func readObject(ctx context.Context, b bucket.Bucket, k string, most int64) ([]byte, bucket.Info, error) {
	body, info, err := b.Get(ctx, k, bucket.Range{})
	if err != nil {
		return nil, info, err
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(io.LimitReader(body, most+1))
	if err != nil {
		return nil, info, fmt.Errorf("read object %q: %w", k, err)
	}
	if int64(len(data)) > most {
		return nil, info, fmt.Errorf("%w: object %q has more than %d bytes", ErrDamaged, k, most)
	}
	return data, info, nil
}
