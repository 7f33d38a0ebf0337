package topology

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/ipfs-aws/ipfs-aws/internal/durable"
)

// State is what a folder is made of: what must stay the same from one start to
// the next. It holds secrets.
type State struct {
	Format        int    `json:"format"` // 1
	Blockstore    string `json:"blockstore"`
	Tasks         int    `json:"tasks"`
	Bucket        string `json:"bucket,omitempty"`
	ExternalS3    bool   `json:"externalS3,omitempty"` // the bucket is at a server that is not ours
	User          string `json:"user"`
	Password      string `json:"password"`
	ClusterSecret string `json:"clusterSecret"`
	Seed          string `json:"seed"`
	AccessKey     string `json:"accessKey,omitempty"` // of our S3 server
	SecretKey     string `json:"secretKey,omitempty"`
}

const (
	stateFormat = 1
	stateFile   = "state.json"
	statusFile  = "status.json"
	lockFile    = "lock"
	ownBucket   = "blocks"
)

// folder is a topology's folder, locked.
type folder struct {
	dir  string
	lock *os.File
}

// openFolder makes the folder if need be and takes its lock, which the kernel
// gives back when this process ends, however it ends.
func openFolder(dir string) (*folder, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the folder %s: %w", dir, err)
	}
	if err := os.MkdirAll(filepath.Join(abs, "logs"), 0o700); err != nil {
		return nil, fmt.Errorf("%w: make %s writable, or choose another folder with --dir", err, abs)
	}
	lock, err := os.OpenFile(filepath.Join(abs, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: make %s writable, or choose another folder with --dir", err, abs)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer lock.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
		who := "another local-cluster"
		if b, err := os.ReadFile(lock.Name()); err == nil && len(b) > 0 {
			who += " (pid " + strings.TrimSpace(string(b)) + ")"
		}
		return nil, fmt.Errorf("%s runs on %s: end it, or choose another folder with --dir", who, abs)
	}
	f := &folder{dir: abs, lock: lock}
	if err := errors.Join(lock.Truncate(0), writeAt(lock, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		f.close()
		return nil, fmt.Errorf("write %s: %w", lock.Name(), err)
	}
	return f, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// close gives the lock back.
func (f *folder) close() { _ = f.lock.Close() }

func (f *folder) path(parts ...string) string {
	return filepath.Join(append([]string{f.dir}, parts...)...)
}

// loadState returns what the folder is, after checking that the options fit
// it, or what it would become if it is nothing yet. It writes nothing.
func (f *folder) loadState(o *Options) (*State, error) {
	raw, err := os.ReadFile(f.path(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return newState(o), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what %s is: %w", f.dir, err)
	}
	var s State
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): choose another folder with --dir, or restore the file", f.path(stateFile), err)
	}
	if s.Format != stateFormat {
		return nil, fmt.Errorf("%s has format %d, and this program knows %d: use the version that made it, or choose another folder with --dir", f.path(stateFile), s.Format, stateFormat)
	}
	if err := s.fits(o, f.dir); err != nil {
		return nil, err
	}
	s.Tasks = o.Tasks // more than before is fine
	return &s, nil
}

// saveState makes the folder what the state says; on disk when it returns.
func (f *folder) saveState(s *State) error { return writeJSON(f.path(stateFile), s) }

// fits refuses options that would need what is stored to be thrown away.
func (s *State) fits(o *Options, dir string) error {
	const nothing = "nothing was changed"
	switch {
	case s.Blockstore != o.Blockstore:
		return fmt.Errorf("%s keeps its blocks in %s, not %s; %s: use --blockstore %s, or choose another folder with --dir",
			dir, s.Blockstore, o.Blockstore, nothing, s.Blockstore)
	case s.ExternalS3 && o.S3Endpoint == "":
		return fmt.Errorf("%s keeps its blocks in the bucket %s of an S3 server of its own; %s: name it with --s3-endpoint and --s3-bucket, or choose another folder with --dir",
			dir, s.Bucket, nothing)
	case !s.ExternalS3 && o.S3Endpoint != "":
		return fmt.Errorf("%s keeps its blocks in the S3 server that is started with it; %s: leave out --s3-endpoint and --s3-bucket, or choose another folder with --dir",
			dir, nothing)
	case s.ExternalS3 && s.Bucket != o.S3Bucket:
		return fmt.Errorf("%s keeps its blocks in the bucket %s, not %s; %s: use --s3-bucket %s, or choose another folder with --dir",
			dir, s.Bucket, o.S3Bucket, nothing, s.Bucket)
	case o.Tasks < s.Tasks:
		return fmt.Errorf("%s has %d tasks, not %d; %s: use --tasks %d, or choose another folder with --dir",
			dir, s.Tasks, o.Tasks, nothing, s.Tasks)
	}
	return nil
}

func newState(o *Options) *State {
	s := &State{
		Format: stateFormat, Blockstore: o.Blockstore, Tasks: o.Tasks,
		User: "admin", Password: readable(20), ClusterSecret: hex.EncodeToString(random(32)), Seed: hex.EncodeToString(random(32)),
	}
	switch {
	case o.ownS3():
		s.Bucket, s.AccessKey, s.SecretKey = ownBucket, "LOCAL"+strings.ToUpper(readable(15)), readable(40)
	case o.Blockstore == "s3":
		s.Bucket, s.ExternalS3 = o.S3Bucket, true
	}
	return s
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}

// readable returns n random lower-case letters and digits, five bits each.
func readable(n int) string {
	return strings.ToLower(base32.StdEncoding.EncodeToString(random(n)))[:n]
}

// writeJSON replaces a file by one that is whole and synced, readable by its
// owner only.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return durable.WriteFile(path, append(b, '\n'), 0o600)
}
