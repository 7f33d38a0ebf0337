package crashfs

import (
	"io/fs"
	"path"
)

// Files returns the visible files under dir, by path, without counting as operations.
func (f *FS) Files(dir string) map[string][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	files := make(map[string][]byte)
	var visit func(name string, n *node)
	visit = func(name string, n *node) {
		if !n.dir {
			files[name] = n.data
			return
		}
		for base, child := range n.entries {
			visit(path.Join(name, base), child)
		}
	}
	if n, err := f.walk("list", dir); err == nil {
		visit(path.Clean("/"+dir), n)
	}
	return files
}

// WriteFile puts a durable file in place, as another client of the server would.
func (f *FS) WriteFile(name string, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, err := f.parent("write", name)
	if err != nil {
		return err
	}
	n := f.newNode(false)
	n.data, n.synced = data, data
	f.outside(link{dir: dir, name: base, to: n})
	return nil
}

// RemoveAll removes a file or a tree, as another client of the server would.
func (f *FS) RemoveAll(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, err := f.parent("remove", name)
	if err != nil {
		return err
	}
	if dir.entries[base] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	f.outside(link{dir: dir, name: base})
	return nil
}

// outside applies a change durably. Nothing may be pending.
func (f *FS) outside(l link) {
	f.apply(l)
	for _, c := range f.pending {
		f.harden(c)
	}
	f.pending = nil
}

// Backup is a copy of a tree.
type Backup struct{ root *node }

// Backup copies the durable state of a tree.
func (f *FS) Backup(name string) (Backup, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.walk("backup", name)
	if err != nil {
		return Backup{}, err
	}
	return Backup{f.copyOf(n, false)}, nil
}

// Restore replaces a tree by a backup, as backup software does: modification
// times as they were, new inodes, and the time of the restore as change time.
func (f *FS) Restore(name string, b Backup) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, err := f.parent("restore", name)
	if err != nil {
		return err
	}
	f.outside(link{dir: dir, name: base, to: f.copyOf(b.root, true)})
	return nil
}

func (f *FS) copyOf(n *node, restored bool) *node {
	c := f.newNode(n.dir)
	c.data, c.synced = n.synced, n.synced
	c.stamp = n.stamp
	if restored {
		c.stamp.ctime = f.now().ctime
	}
	c.kept = c.stamp
	for name, child := range n.durable {
		cc := f.copyOf(child, restored)
		c.entries[name], c.durable[name] = cc, cc
	}
	return c
}
