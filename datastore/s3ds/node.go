package s3ds

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// Files of the journal's folder that the journal does not know.
const (
	nodeFile = "NODE" // the id
	nodeLock = "NODE.lock"
)

// node is who writes: a random id that lives with the journal, for its blocks go out under this name, and a lock on both.
type node struct {
	id   string
	lock io.Closer
}

// openNode reads the id of the node that the journal in dir belongs to, or makes one, durably.
func openNode(fs vfs.FS, dir string) (_ *node, err error) {
	if err := makeDirs(fs, dir); err != nil {
		return nil, fmt.Errorf("make the folder of the journal: %w: correct journalPath, or make it writable", err)
	}
	lock, err := fs.Lock(fs.PathJoin(dir, nodeLock))
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w: another process uses this repo, stop it first", dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	name := fs.PathJoin(dir, nodeFile)
	if id, err := readFile(fs, name); err == nil {
		id = strings.TrimSpace(id)
		if err := pack.CheckWriter(id); err != nil {
			return nil, fmt.Errorf("%s holds no id: %w: restore it, or delete it to become a new node", name, err)
		}
		return &node{id, lock}, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the id of this node: %w", err)
	}
	id := strings.ToLower(rand.Text()[:12]) // 60 bits: no two of a million nodes share one
	if err := writeFile(fs, dir, name, id+"\n"); err != nil {
		return nil, fmt.Errorf("write the id of this node: %w", err)
	}
	return &node{id, lock}, nil
}

// makeDirs makes dir and those above it, durably.
func makeDirs(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for d := dir; ; {
		parent := fs.PathDir(d)
		if parent == d {
			return nil
		}
		if err := syncDir(fs, parent); err != nil {
			if errors.Is(err, os.ErrPermission) { // above what is ours, and so there before
				return nil
			}
			return err
		}
		d = parent
	}
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readFile(fs vfs.FS, name string) (string, error) {
	f, err := fs.Open(name)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<10))
	return string(b), errors.Join(err, f.Close())
}

// writeFile makes a small file, whole or not at all, durably.
func writeFile(fs vfs.FS, dir, name, content string) error {
	f, err := fs.Create(name+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(content))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(name+".new", name); err != nil {
		return err
	}
	return syncDir(fs, dir)
}
