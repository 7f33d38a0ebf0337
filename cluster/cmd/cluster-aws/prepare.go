package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/ipfs-aws/ipfs-aws/cluster/peer"
	"github.com/ipfs-aws/ipfs-aws/cluster/self/folder"
	"github.com/ipfs-aws/ipfs-aws/cluster/self/identity"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
	"github.com/ipfs-aws/ipfs-aws/internal/container"
	"github.com/ipfs-aws/ipfs-aws/internal/environ"
)

// prepared is a peer that may start: settings checked, folder locked and its own.
type prepared struct {
	settings *settings.Settings
	configs  *peer.Configs
	identity identity.Identity
	lock     *folder.Lock
	isNew    bool // the folder was marked by this call
}

// role is what a peer runs as.
type role int

const (
	plain   role = iota // a command at a prompt, or a unit of a service manager
	inImage             // the process that an image runs
)

// look reads and checks everything and changes nothing: settings, the volume, and
// whose folder it is.
func look(r role) (*settings.Settings, *peer.Configs, error) {
	vars, err := withTask(os.Environ())
	if err != nil {
		return nil, nil, err
	}
	if r == inImage && os.Getenv(healthVariable) == "" {
		vars = append(vars, healthVariable+"="+defaultHealthAddress)
	}
	s, err := settings.Load(vars)
	if r == inImage {
		err = withVolume(err, vars)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := settings.TakeSecrets(); err != nil {
		return nil, nil, err
	}
	configs, err := peer.NewConfigs(s)
	if err != nil {
		return nil, nil, err
	}
	if s.Identity != nil {
		if err := s.Folder.Check(s.PeerName, s.Identity.ID); err != nil {
			return nil, nil, err
		}
	}
	return s, configs, nil
}

// withVolume adds to the problems of the settings that the volume may not be
// used, so that both are told at once.
func withVolume(err error, vars []string) error {
	s, ferr := settings.LoadFolder(vars)
	if ferr != nil {
		return err // which says so, too
	}
	verr := container.UsableVolume(string(s.Folder), "cluster-aws.json", "identity.json", "peerstore", "pebble")
	if verr == nil {
		return err
	}
	var problems environ.Problems
	if err != nil && !errors.As(err, &problems) {
		return err
	}
	return append(problems, environ.Problem{Name: "IPFS_CLUSTER_PATH", Want: verr.Error()})
}

// prepare checks everything before it changes anything: a settings problem, a
// folder of another peer, or a folder in use leaves no trace.
func prepare(r role) (*prepared, error) {
	s, configs, err := look(r)
	if err != nil {
		return nil, err
	}
	lock, err := s.Folder.Lock()
	if err != nil {
		return nil, err
	}
	p := &prepared{settings: s, configs: configs, lock: lock}
	if err := p.adopt(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return p, nil
}

// adopt settles the identity and marks the folder, under the lock.
func (p *prepared) adopt() error {
	s := p.settings
	if s.Identity != nil {
		p.identity = *s.Identity
	} else {
		kept, err := s.Folder.Identity()
		if errors.Is(err, os.ErrNotExist) {
			if m, merr := s.Folder.Marker(); merr == nil {
				return fmt.Errorf("the folder %s belongs to peer %q (%s), and neither the settings nor the folder hold its key: set CLUSTER_SEED (or CLUSTER_ID and CLUSTER_PRIVATEKEY) as before", s.Folder, m.PeerName, m.PeerID)
			}
			kept, err = s.Folder.GenerateIdentity()
		}
		if err != nil {
			return err
		}
		p.identity = kept
	}
	if err := s.Folder.Check(s.PeerName, p.identity.ID); err != nil {
		return err
	}
	var err error
	p.isNew, err = s.Folder.Adopt(s.PeerName, p.identity.ID)
	return err
}
