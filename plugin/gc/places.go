package gc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/kubo/repo"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/node/holders"
	"github.com/ipfs-aws/ipfs-aws/plugin/efs"
	s3plugin "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
	"github.com/ipfs-aws/ipfs-aws/plugin/tiered"
)

// reposFile lists the repos that write to a folder of blocks. Neither flatfs nor efs takes a file there for a block.
const reposFile = "ipfs-aws-repos"

// places are the stores of the blocks of a repo, by its config of this moment: a migration changes them. A store of another kind
// than ours has no list, and no one else is known to use it.
func places(r repo.Repo, blocks func() blockstore.Blockstore) ([]holders.Place, error) {
	cfg, err := r.Config()
	if err != nil {
		return nil, err
	}
	mounts, _ := cfg.Datastore.Spec["mounts"].([]any)
	var found []holders.Place
	for _, m := range mounts {
		spec, _ := m.(map[string]any)
		if spec["mountpoint"] != "/blocks" {
			continue
		}
		more, err := placesOf(r.Path(), spec, blocks)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

func placesOf(root string, spec map[string]any, blocks func() blockstore.Blockstore) ([]holders.Place, error) {
	if child, ok := spec["child"].(map[string]any); ok { // measure, log
		return placesOf(root, child, blocks)
	}
	switch spec["type"] {
	case "flatfs", efs.TypeName:
		path, _ := spec["path"].(string)
		if !filepath.IsAbs(path) {
			path = filepath.Join(root, path)
		}
		return []holders.Place{folder{path, blocks}}, nil
	case s3ds.Type:
		c, err := s3plugin.Parse(spec)
		if err != nil {
			return nil, err
		}
		store, ok := s3plugin.Opened(root, c)
		if !ok {
			return nil, errors.New("the blockstore in the bucket is not open")
		}
		return []holders.Place{prefix{store, fmt.Sprintf("bucket %s, prefix %q", c.Bucket, c.RootDirectory), blocks}}, nil
	case tiered.TypeName:
		var all []holders.Place
		for _, part := range []string{"hot", "cold"} {
			of, _ := spec[part].(map[string]any)
			more, err := placesOf(root, of, blocks)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		}
		return all, nil
	}
	return nil, nil
}

// folder is that of flatfs or efs.
type folder struct {
	path   string
	blocks func() blockstore.Blockstore
}

func (f folder) Name() string { return f.path }

func (f folder) Read(context.Context) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(f.path, reposFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func (f folder) Write(_ context.Context, list []byte) error {
	temp, err := os.CreateTemp(f.path, reposFile+"-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(list)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), filepath.Join(f.path, reposFile))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

func (f folder) Empty(ctx context.Context) (bool, error) { return empty(ctx, f.blocks()) }

// prefix is that of s3.
type prefix struct {
	store  s3ds.Store
	name   string
	blocks func() blockstore.Blockstore
}

func (p prefix) Name() string                                 { return p.name }
func (p prefix) Read(ctx context.Context) ([]byte, error)     { return p.store.Repos(ctx) }
func (p prefix) Write(ctx context.Context, list []byte) error { return p.store.SetRepos(ctx, list) }
func (p prefix) Empty(ctx context.Context) (bool, error)      { return empty(ctx, p.blocks()) }

// empty looks for one block.
func empty(ctx context.Context, blocks blockstore.Blockstore) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys, err := blocks.AllKeysChan(ctx)
	if err != nil {
		return false, err
	}
	_, there := <-keys
	return !there, ctx.Err()
}
