package swap

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	lockfile "github.com/ipfs/go-fs-lock"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/repo/fsrepo"

	"github.com/ipfs-aws/ipfs-aws/internal/durable"
)

// Decision is what Switch does to a repo.
type Decision struct {
	Phase    string         // of the record, afterwards
	Config   map[string]any // values of config keys, which are paths with dots
	DiskSpec string         // content of datastore_spec
}

const specFile = "datastore_spec"

func decisionFile(repo string) string { return filepath.Join(Folder(repo), "switch.json") }

// Setter sets a key of the config of an open repo, as repo.Repo does.
type Setter interface {
	SetConfigKey(key string, value any) error
}

// Decide makes the decision that a repo uses another spec of its datastore from now on, with other keys of the config that go with it.
func Decide(spec map[string]any, phase string, keys map[string]any) (Decision, error) {
	ds, err := fsrepo.AnyDatastoreConfig(spec)
	if err != nil {
		return Decision{}, fmt.Errorf("new Datastore.Spec: %w", err)
	}
	d := Decision{Phase: phase, Config: map[string]any{"Datastore.Spec": spec}, DiskSpec: ds.DiskSpec().String()}
	for k, v := range keys {
		d.Config[k] = v
	}
	return d, nil
}

// Switch carries a decision out. The repo must be locked by this process. open is the repo if it is open, so that it does not
// write its old config over the new one later; nil otherwise. If it fails after the decision was written down, Recover will
// finish it.
//
// upstream: spec-files
func Switch(repo string, open Setter, d Decision) error {
	b, err := json.MarshalIndent(d, "", "  ")
	if err == nil {
		err = makeFolder(repo)
	}
	if err == nil {
		err = durable.WriteFile(decisionFile(repo), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("decide on the switch, nothing was changed: %w", err)
	}
	return d.carryOut(repo, open)
}

func (d Decision) carryOut(repo string, open Setter) error {
	// Round trip through JSON, so that the values have the types that kubo expects.
	if err := d.write(repo, open); err != nil {
		return fmt.Errorf("switch the repo to its new store: %w: the next ipfs-aws command tries again", err)
	}
	r, err := Load(repo)
	if err != nil {
		return err
	}
	if r != nil {
		r.Phase = d.Phase
		if err := r.Save(repo); err != nil {
			return err
		}
	}
	if err := os.Remove(decisionFile(repo)); err != nil {
		return fmt.Errorf("end the switch of the repo: %w", err)
	}
	return durable.SyncDir(Folder(repo))
}

func (d Decision) write(repo string, open Setter) error {
	b, err := json.Marshal(d.Config)
	if err != nil {
		return err
	}
	var keys map[string]any
	if err := json.Unmarshal(b, &keys); err != nil {
		return err
	}
	if open != nil {
		for key, value := range keys {
			if err := open.SetConfigKey(key, value); err != nil {
				return fmt.Errorf("set %s: %w", key, err)
			}
		}
	}
	// Also when it was set above: kubo does not sync its config.
	path := filepath.Join(repo, config.DefaultConfigFile)
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(old))
	dec.UseNumber()
	var cfg map[string]any
	if err := dec.Decode(&cfg); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for key, value := range keys {
		at := cfg
		parts := strings.Split(key, ".")
		for _, p := range parts[:len(parts)-1] {
			next, ok := at[p].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[p] = next
			}
			at = next
		}
		at[parts[len(parts)-1]] = value
	}
	b, err = config.Marshal(cfg)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(path, b, 0o600); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(repo, specFile), []byte(d.DiskSpec), 0o600)
}

// Recover finishes a switch that was cut off by a crash. It does nothing where there is none, or where another process has the
// repo: that one is in the middle of it.
func Recover(repo string) error {
	b, err := os.ReadFile(decisionFile(repo))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("look for a switch that was not finished: %w", err)
	}
	var d Decision
	if err := json.Unmarshal(b, &d); err != nil {
		return fmt.Errorf("finish a switch: %s: %w", decisionFile(repo), err)
	}
	lock, err := lockRepo(repo)
	if err != nil {
		var locked lockfile.LockedError
		if errors.As(err, &locked) {
			return nil
		}
		return fmt.Errorf("finish a switch: lock the repo: %w", err)
	}
	if _, err := os.Stat(decisionFile(repo)); errors.Is(err, fs.ErrNotExist) { // another process was quicker
		return lock.Close()
	}
	return errors.Join(d.carryOut(repo, nil), lock.Close())
}

// waitEnv is how long kubo waits for the lock of a repo, when one task hands it over to the next.
const waitEnv = "IPFS_WAIT_REPO_LOCK"

// lockRepo waits for the lock as kubo will: the one that has it may be cut off in the middle of a switch.
func lockRepo(repo string) (io.Closer, error) {
	lock, err := lockfile.Lock(repo, fsrepo.LockFile)
	wait, bad := time.ParseDuration(os.Getenv(waitEnv))
	if err == nil || bad != nil {
		return lock, err
	}
	ctx := context.Background()
	if wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	return lockfile.WaitLock(ctx, repo, fsrepo.LockFile)
}
