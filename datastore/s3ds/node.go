package s3ds

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// Files of the journal's folder that the journal does not know.
const (
	nodeFile    = "NODE" // the id
	nodeLock    = "NODE.lock"
	sessionFile = "SESSION" // which processes have worked here, as JSON
)

// node is who writes: a random id that lives with the journal, for its blocks go out under this name, and a lock on both.
type node struct {
	id   string
	lock io.Closer

	fs       vfs.FS
	dir      string
	folder   string   // what tells this folder from a copy of it
	sessions []string // of processes that have worked in this folder: the one that owned the prefix last, and one that was about to
	moved    bool     // the folder is a copy of the one that its processes have worked in
}

// sessions is the content of sessionFile.
type sessions struct {
	Sessions []string `json:"sessions"`
	Folder   string   `json:"folder,omitempty"`
}

func newSession() string { return rand.Text() }

// was reports whether a session was a process in this very folder. It has ended then: this one has the lock.
func (n *node) was(session string) bool { return !n.moved && slices.Contains(n.sessions, session) }

// began writes down, durably, that a process with this session works here from now on. before is the session that
// owns the prefix until then.
func (n *node) began(before, session string) error {
	all := []string{session}
	if n.was(before) {
		all = append(all, before)
	}
	b, err := json.Marshal(sessions{all, n.folder})
	if err != nil {
		return err
	}
	if err := writeFile(n.fs, n.dir, n.fs.PathJoin(n.dir, sessionFile), string(b)+"\n"); err != nil {
		return fmt.Errorf("write down that this process works in %s: %w", n.dir, err)
	}
	n.sessions, n.moved = all, false
	return nil
}

// remember reads which processes have worked here. A file that cannot be read says nothing: the prefix is taken over
// with a word of a person then.
func (n *node) remember() error {
	fi, err := n.fs.Stat(n.fs.PathJoin(n.dir, nodeFile))
	if err != nil {
		return err
	}
	n.folder = fileIdentity(fi)
	text, err := readFile(n.fs, n.fs.PathJoin(n.dir, sessionFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var s sessions
	if json.Unmarshal([]byte(text), &s) == nil {
		n.sessions, n.moved = s.Sessions, s.Folder != n.folder
	}
	return nil
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
		n := &node{id: id, lock: lock, fs: fs, dir: dir}
		if err := n.remember(); err != nil {
			return nil, fmt.Errorf("read which processes have worked in %s: %w", dir, err)
		}
		return n, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the id of this node: %w", err)
	}
	id := strings.ToLower(rand.Text()[:12]) // 60 bits: no two of a million nodes share one
	if err := writeFile(fs, dir, name, id+"\n"); err != nil {
		return nil, fmt.Errorf("write the id of this node: %w", err)
	}
	n := &node{id: id, lock: lock, fs: fs, dir: dir}
	if err := n.remember(); err != nil {
		return nil, fmt.Errorf("read which processes have worked in %s: %w", dir, err)
	}
	return n, nil
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
