package placement

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/boxo/datastore/dshelp"
	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"
)

// HomeKey is the key of a pin's metadata that names the peers where it belongs
// while it is somewhere else: peer IDs, separated by commas. In the pinset it is a part of the
// placement; former releases wrote it into the pin. It goes when the pin is home, and when a
// client pins the CID again, which makes where it is its home.
const HomeKey = "cluster-aws-home"

// Version names the record of a pin, by its bytes. The zero value names none.
type Version string

// versionBytes are enough of a SHA-256 for the records that one CID ever has.
const versionBytes = 16

func versionOf(record []byte) Version {
	sum := sha256.Sum256(record)
	return Version(base64.RawURLEncoding.EncodeToString(sum[:versionBytes]))
}

// Placement is where the copies of a pin are.
type Placement struct {
	// Of is the record that it is for.
	Of Version `json:"of"`
	// At are the peers that keep the pin.
	At []string `json:"at"`
	// Home is the value for [HomeKey], or empty.
	Home string `json:"home,omitempty"`
}

// of returns the placement of a pin as it is in memory, for a record.
func of(pin api.Pin, v Version) Placement {
	return Placement{Of: v, At: api.PeersToStrings(pin.Allocations), Home: pin.Metadata[HomeKey]}
}

// at is the last part of a placement's key. The key is a child of the pin's, which
// go-ds-crdt keeps apart from it.
const at = "at"

// key is where the pinset keeps the record of a pin.
//
// upstream: pin-keys
func key(c api.Cid) ds.Key { return dshelp.NewKeyFromBinary(c.Bytes()) }

// Split returns the key of the pin that a key belongs to, and whether the key is that of
// the pin's placement.
func Split(k ds.Key) (pin ds.Key, isPlacement bool) {
	if k.BaseNamespace() == at && !k.IsTopLevel() {
		return k.Parent(), true
	}
	return k, false
}

// Of returns the key of the placement for the key of a pin.
func Of(pin ds.Key) ds.Key { return pin.ChildString(at) }

// Read reads a pin from its record and the placement next to it, which may be nil. It
// returns the record's version. The pin has a CID if the record has one.
func Read(record, placed []byte) (api.Pin, Version, error) {
	var pin api.Pin
	if err := pin.ProtoUnmarshal(record); err != nil {
		return pin, "", err
	}
	v := versionOf(record)
	if placed == nil {
		return pin, v, nil
	}
	var p Placement
	if err := json.Unmarshal(placed, &p); err != nil {
		return pin, v, fmt.Errorf("read the placement: %w", err)
	}
	if p.Of != v {
		return pin, v, nil
	}
	var where []peer.ID
	for _, one := range p.At {
		id, err := peer.Decode(one)
		if err != nil {
			return pin, v, fmt.Errorf("read the placement: peer %q: %w", one, err)
		}
		where = append(where, id)
	}
	pin.Allocations = where
	pin.Metadata = Homed(pin.Metadata, p.Home)
	return pin, v, nil
}

// Homed returns a copy of a pin's metadata with a value of [HomeKey], or without one if it is
// empty.
func Homed(metadata map[string]string, home string) map[string]string {
	out := maps.Clone(metadata)
	delete(out, HomeKey)
	if home == "" {
		return out
	}
	if out == nil {
		out = map[string]string{}
	}
	out[HomeKey] = home
	return out
}

// Home returns the text for [HomeKey] that names peers.
func Home(ids []peer.ID) string { return strings.Join(api.PeersToStrings(ids), ",") }
