package swap

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ipfs-aws/ipfs-aws/internal/durable"
)

// Phases of a migration.
const (
	Copying  = "copying"  // the repo uses the old store
	Tiered   = "tiered"   // the repo uses both: new blocks go to the new one
	Switched = "switched" // the repo uses the new one; the old one is still there
	Done     = "done"     // and the old one was removed
)

// Record is what is written down about a migration.
type Record struct {
	Version int
	From    map[string]any // entries of /blocks in Datastore.Spec, or what the repo was mounted from
	To      map[string]any
	Whole   bool `json:",omitempty"` // From is the store of the whole repo, whose keys under /blocks are the blocks
	Phase   string
	Merge   bool `json:",omitempty"`
	Begun   time.Time
	Changed time.Time
}

const version = 1

// Folder is where a repo keeps its record.
func Folder(repo string) string { return filepath.Join(repo, "migrate") }

// Ledger is the folder of the ledger.
func Ledger(repo string) string { return filepath.Join(Folder(repo), "ledger") }

func recordFile(repo string) string { return filepath.Join(Folder(repo), "state.json") }

// Load returns the record of a repo, nil if there is none.
func Load(repo string) (*Record, error) {
	b, err := os.ReadFile(recordFile(repo))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read the record of the migration: %w", err)
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read the record of the migration: %s: %w: move it away to begin anew", recordFile(repo), err)
	}
	if r.Version != version {
		return nil, fmt.Errorf("read the record of the migration: %s has version %d: it was written by another release of ipfs-aws, use that one", recordFile(repo), r.Version)
	}
	return &r, nil
}

// Save writes the record down, durably.
func (r *Record) Save(repo string) error {
	r.Version, r.Changed = version, time.Now().UTC()
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = makeFolder(repo)
	}
	if err == nil {
		err = durable.WriteFile(recordFile(repo), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the record of the migration: %w", err)
	}
	return nil
}

// Forget removes record and ledger.
func Forget(repo string) error {
	if err := os.RemoveAll(Folder(repo)); err != nil {
		return fmt.Errorf("remove the record of the migration: %w", err)
	}
	return durable.SyncDir(repo)
}

func makeFolder(repo string) error {
	if err := os.MkdirAll(Folder(repo), 0o700); err != nil {
		return err
	}
	return durable.SyncDir(repo)
}
