// Package holders knows which repos have written to a store of blocks, so that the garbage collection of one does not take what
// another has pinned.
//
// A store holds a list of the repos that have written to it since one of them adopted it, one id a line:
//
//	flatfs, efs   the file ipfs-aws-repos in the folder of the blocks
//	s3            the object .ipfs-aws-repos under the prefix
//
// A repo holds its id, in gc/repo.json, with a note whether it has ever had a store.
//
// # Rules
//
//   - Join is called before a process writes its first block, and puts the repo on the list.
//   - A repo that was made a moment ago and finds blocks in a store without a list puts unknown on it as well: they are of
//     someone. A repo that was there before this release, or whose blocks were moved, has pinned what is there by itself.
//   - Check fails if there is anyone else on the list.
//   - Adopt puts the repo there alone: from then on its pins decide.
//
// A crash in Join leaves the list with this repo, or without it and no block of it.
package holders

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// unknown is a repo that wrote before there was a list.
const unknown = "unknown"

// Place is a store of blocks.
type Place interface {
	// Name is for people: the folder, or bucket and prefix.
	Name() string
	// Read returns the list, nil if there is none.
	Read(context.Context) ([]byte, error)
	Write(context.Context, []byte) error
	// Empty reports whether there is no block.
	Empty(context.Context) (bool, error)
}

// Repo is what a repo knows of itself.
type Repo struct {
	path   string
	places func() ([]Place, error)

	mu     sync.Mutex
	joined bool
	state  state
}

type state struct {
	ID string
	// Fresh: the repo was made by a release that knows lists, and has had no store yet.
	Fresh bool `json:",omitempty"`
}

func file(repo string) string { return filepath.Join(repo, "gc", "repo.json") }

// Fresh notes that a repo is being made in a folder.
func Fresh(repo string) error { return save(repo, state{ID: newID(), Fresh: true}) }

func newID() string { return strings.ToLower(rand.Text()[:16]) }

func save(repo string, s state) error {
	path := file(repo)
	b, err := json.Marshal(s)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path+".new", append(b, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("write down who this repo is: %w", err)
	}
	return nil
}

// Open reads what is known of the repo in a folder. places are asked for when they are needed.
func Open(repo string, places func() ([]Place, error)) (*Repo, error) {
	r := &Repo{path: repo, places: places}
	b, err := os.ReadFile(file(repo))
	switch {
	case errors.Is(err, os.ErrNotExist): // of a release before
		r.state.ID = newID()
		return r, save(repo, r.state)
	case err != nil:
		return nil, fmt.Errorf("read who this repo is: %w", err)
	}
	if err := json.Unmarshal(b, &r.state); err != nil || r.state.ID == "" {
		return nil, fmt.Errorf("%s does not say who this repo is: restore it from a backup, or remove it and run `ipfs-aws repo gc --adopt`", file(repo))
	}
	return r, nil
}

// Join puts the repo on the list of its stores.
func (r *Repo) Join(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.joined {
		return nil
	}
	places, err := r.places()
	if err != nil {
		return err
	}
	for _, p := range places {
		if err := r.join(ctx, p); err != nil {
			return fmt.Errorf("note in %s which repo writes there: %w", p.Name(), err)
		}
	}
	if r.state.Fresh {
		r.state.Fresh = false
		if err := save(r.path, r.state); err != nil {
			return err
		}
	}
	r.joined = true
	return nil
}

func (r *Repo) join(ctx context.Context, p Place) error {
	list, err := read(ctx, p)
	if err != nil || slices.Contains(list, r.state.ID) {
		return err
	}
	if len(list) == 0 && r.state.Fresh {
		empty, err := p.Empty(ctx)
		if err != nil {
			return err
		}
		if !empty {
			list = append(list, unknown)
		}
	}
	return write(ctx, p, append(list, r.state.ID))
}

func read(ctx context.Context, p Place) ([]string, error) {
	b, err := p.Read(ctx)
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(b)), nil
}

func write(ctx context.Context, p Place, list []string) error {
	return p.Write(ctx, []byte(strings.Join(list, "\n")+"\n"))
}

// ForeignError: others have written to a store.
type ForeignError struct {
	Place  string
	Others []string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("garbage collection refused, nothing was removed: %s holds blocks of other repos (%s), whose pins this repo does not know; it would remove what they have pinned. "+
		"Give this node a prefix or folder of its own; or, if the others are gone for good, pin here what is to stay, look at `ipfs-aws repo gc --adopt --dry-run`, and run `ipfs-aws repo gc --adopt`: from then on the pins of this repo alone decide",
		e.Place, strings.Join(e.Others, ", "))
}

// Check fails with a ForeignError if anyone else has written to a store of the repo.
func (r *Repo) Check(ctx context.Context) error {
	if err := r.Join(ctx); err != nil {
		return err
	}
	places, err := r.places()
	if err != nil {
		return err
	}
	for _, p := range places {
		list, err := read(ctx, p)
		if err != nil {
			return fmt.Errorf("read from %s which repos write there: %w", p.Name(), err)
		}
		others := slices.DeleteFunc(list, func(id string) bool { return id == r.state.ID })
		if len(others) > 0 {
			return &ForeignError{p.Name(), others}
		}
	}
	return nil
}

// Adopt makes the repo the only one on the list of its stores.
func (r *Repo) Adopt(ctx context.Context) error {
	if err := r.Join(ctx); err != nil {
		return err
	}
	places, err := r.places()
	if err != nil {
		return err
	}
	for _, p := range places {
		if err := write(ctx, p, []string{r.state.ID}); err != nil {
			return fmt.Errorf("note in %s which repo it belongs to: %w", p.Name(), err)
		}
	}
	return nil
}
