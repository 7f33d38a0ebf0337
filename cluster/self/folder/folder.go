package folder

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ipfs-cluster/ipfs-cluster/config"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/cluster/self/identity"
	"github.com/ipfs-aws/ipfs-aws/internal/durable"
)

const (
	markerName   = "cluster-aws.json"
	identityName = "identity.json"
	storeName    = "pebble"
)

// Folder is the path of a cluster peer's folder. It need not exist.
type Folder string

// Marker says which peer a folder belongs to.
type Marker struct {
	Version  int    `json:"version"`
	PeerName string `json:"peerName"`
	PeerID   string `json:"peerID"`
}

// StorePath is where the pinset lives, unless a setting moves it.
func (f Folder) StorePath() string { return filepath.Join(string(f), storeName) }

// IdentityPath is where a peer without a seed keeps its private key.
func (f Folder) IdentityPath() string { return filepath.Join(string(f), identityName) }

// MarkerPath is where the marker is.
func (f Folder) MarkerPath() string { return filepath.Join(string(f), markerName) }

// Marker reads the marker. Without one it returns an error that wraps
// [os.ErrNotExist].
func (f Folder) Marker() (Marker, error) {
	raw, err := f.read(f.MarkerPath())
	if err != nil {
		return Marker{}, err
	}
	var m Marker
	if err := json.Unmarshal(raw, &m); err != nil {
		return Marker{}, fmt.Errorf("read %s: %w", f.MarkerPath(), err)
	}
	if m.Version != 1 {
		return Marker{}, fmt.Errorf("%s has version %d and this program knows version 1: it was written by a newer cluster-aws, use that one", f.MarkerPath(), m.Version)
	}
	return m, nil
}

// Identity reads the private key that a peer without a seed keeps in its
// folder. Without one it returns an error that wraps [os.ErrNotExist].
func (f Folder) Identity() (identity.Identity, error) {
	raw, err := f.read(f.IdentityPath())
	if err != nil {
		return identity.Identity{}, err
	}
	var id config.Identity
	if err := id.LoadJSON(raw); err != nil {
		return identity.Identity{}, fmt.Errorf("read %s: %w", f.IdentityPath(), err)
	}
	return identity.Identity{ID: id.ID, Key: id.PrivateKey}, nil
}

func (f Folder) read(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the cluster folder: %w: make it readable for this user, or name another one in IPFS_CLUSTER_PATH", err)
	}
	return raw, err
}

// GenerateIdentity writes a new random identity to the folder, readable by its
// owner only, and returns it. It never replaces an existing one. The caller
// holds the lock.
func (f Folder) GenerateIdentity() (identity.Identity, error) {
	if _, err := os.Lstat(f.IdentityPath()); !errors.Is(err, os.ErrNotExist) {
		return identity.Identity{}, fmt.Errorf("generate an identity: %s exists already", f.IdentityPath())
	}
	key, _, err := crypto.GenerateEd25519Key(nil)
	if err != nil {
		return identity.Identity{}, fmt.Errorf("generate an identity: %w", err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return identity.Identity{}, fmt.Errorf("generate an identity: %w", err)
	}
	raw, err := (&config.Identity{ID: id, PrivateKey: key}).ToJSON()
	if err != nil {
		return identity.Identity{}, fmt.Errorf("generate an identity: %w", err)
	}
	if err := f.write(identityName, raw); err != nil {
		return identity.Identity{}, err
	}
	return identity.Identity{ID: id, Key: key}, nil
}

// Check reports whether a peer with the given name and ID may use the folder:
// if it does not exist, is not marked yet and holds no other identity, or is
// marked as this peer's. It changes nothing.
func (f Folder) Check(name string, id peer.ID) error {
	m, err := f.Marker()
	if err == nil {
		if m.PeerID != id.String() {
			return fmt.Errorf("the folder %s belongs to peer %q (%s), but the settings make this peer %q (%s): "+
				"give each peer a folder of its own (IPFS_CLUSTER_PATH), or restore the peer name and seed it was made with; "+
				"to let this peer take the pinset over, delete %s",
				f, m.PeerName, m.PeerID, name, id, f.MarkerPath())
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	kept, err := f.Identity()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if kept.ID != id {
		return fmt.Errorf("the folder %s has an identity.json of peer %s, but the settings make this peer %q (%s): "+
			"give each peer a folder of its own (IPFS_CLUSTER_PATH); to let this peer take the pinset over, move %s away",
			f, kept.ID, name, id, f.IdentityPath())
	}
	return nil
}

// Adopt marks the folder as the given peer's, if it is not marked already, and
// reports whether it was new. The caller holds the lock and has called
// [Folder.Check].
func (f Folder) Adopt(name string, id peer.ID) (bool, error) {
	if _, err := f.Marker(); err == nil {
		return false, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	raw, err := json.MarshalIndent(Marker{Version: 1, PeerName: name, PeerID: id.String()}, "", "  ")
	if err != nil {
		return false, fmt.Errorf("mark the folder %s: %w", f, err)
	}
	return true, f.write(markerName, append(raw, '\n'))
}

// write replaces a file of the folder durably.
func (f Folder) write(name string, content []byte) error {
	return durable.WriteFile(filepath.Join(string(f), name), content, 0o600)
}
