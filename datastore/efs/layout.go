package efs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	ds "github.com/ipfs/go-datastore"
	flatfs "github.com/ipfs/go-ds-flatfs"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

const (
	blockSuffix = ".data"
	// tempPrefix begins the names of files that are not blocks yet. The dot
	// hides them from the listings of stock flatfs.
	tempPrefix = ".efs-tmp-"
	tempDir    = ".temp"
	// markerPrefix begins the name of the file in tempDir that Close leaves.
	markerPrefix = "efs-closed-"
)

// keyName turns a datastore key into the name of its file, without suffix.
// ok is false for keys that flatfs cannot hold.
func keyName(key ds.Key) (name string, ok bool) {
	s := key.String()
	if len(s) < 2 || s[0] != '/' || !validName(s[1:]) {
		return "", false
	}
	return s[1:], true
}

// maxName is what a file name may have (255 bytes on EFS and on Linux's own
// file systems) less the suffix.
const maxName = 255 - len(blockSuffix)

func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		switch b := s[i]; {
		case '0' <= b && b <= '9', 'A' <= b && b <= 'Z', b == '+', b == '-', b == '_', b == '=':
		default:
			return false
		}
	}
	return true
}

// blockName turns a file name in the given shard into the block's name; ok is
// false if no key leads to this file.
func (d *Datastore) blockName(shard, file string) (name string, ok bool) {
	name, ok = strings.CutSuffix(file, blockSuffix)
	return name, ok && validName(name) && d.shardOf(name) == shard
}

func (d *Datastore) dir(shard string) string { return filepath.Join(d.cfg.Path, shard) }

func (d *Datastore) file(shard, name string) string {
	return filepath.Join(d.cfg.Path, shard, name+blockSuffix)
}

// establish makes the store's directory if there is none, and checks the shard
// function of one that is there. Interrupted at any point, it is completed
// by the next call: SHARDING, which makes a directory a flatfs, comes last.
func establish(fsys vfs.FS, cfg Config, shardFunc *flatfs.ShardIdV1) error {
	sharding := filepath.Join(cfg.Path, flatfs.SHARDING_FN)
	data, err := vfs.ReadAll(fsys, sharding)
	if err == nil {
		have, err := parseShardFunc(string(data))
		if err != nil {
			return fmt.Errorf("efs: %s %w", sharding, err)
		}
		if have.String() != shardFunc.String() {
			return fmt.Errorf("efs: the store in %s has the shard function %s, and the setting \"shardFunc\" says %s: correct the setting",
				cfg.Path, have, shardFunc)
		}
		return settleNames(fsys, cfg)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return explain("open store", err)
	}

	err = fsys.Mkdir(cfg.Path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return explain("create store", err)
	}
	entries, err := fsys.ReadDir(cfg.Path)
	if err != nil {
		return explain("create store", err)
	}
	for _, e := range entries {
		if e.Name != flatfs.README_FN && e.Name != lockFile && !strings.HasPrefix(e.Name, tempPrefix) {
			return fmt.Errorf("efs: %s has no file %s but holds %s: it is no flatfs store, and only an empty directory is made one",
				cfg.Path, flatfs.SHARDING_FN, e.Name)
		}
	}
	if shardFunc.String() == flatfs.IPFS_DEF_SHARD_STR {
		readme := filepath.Join(cfg.Path, flatfs.README_FN)
		if err := writeFile(fsys, filepath.Join(cfg.Path, newTempName()), readme, []byte(flatfs.README_IPFS_DEF_SHARD)); err != nil {
			return explain("create store", err)
		}
	}
	if err := writeFile(fsys, filepath.Join(cfg.Path, newTempName()), sharding, []byte(shardFunc.String()+"\n")); err != nil {
		return explain("create store", err)
	}
	return settleNames(fsys, cfg)
}

// settleNames makes the names of the store, of its own files and of its shards
// durable: who made them may have been killed before doing so.
func settleNames(fsys vfs.FS, cfg Config) error {
	if err := fsys.SyncDir(cfg.Path); err != nil {
		return explain("open store", err)
	}
	err := fsys.SyncDir(filepath.Dir(cfg.Path))
	if errors.Is(err, fs.ErrPermission) {
		return nil // a parent that we may not even read was made by somebody else, before
	}
	return explain("open store", err)
}

// writeFile replaces a file, durably and at once. A crash may leave tmp behind.
func writeFile(fsys vfs.FS, tmp, name string, data []byte) error {
	w, err := newFileWriter(fsys, tmp, name)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return errors.Join(err, w.abort())
	}
	return w.commit()
}

// fileWriter writes a file that appears under its name complete and durable, or not at all.
type fileWriter struct {
	fsys vfs.FS
	name string
	vfs.File
}

// newFileWriter starts writing name by way of tmp, which must be on the same
// file system and used by nobody else. A tmp left behind by a crash is replaced.
func newFileWriter(fsys vfs.FS, tmp, name string) (*fileWriter, error) {
	f, err := fsys.Create(tmp)
	if errors.Is(err, fs.ErrExist) {
		if err := fsys.Remove(tmp); err != nil {
			return nil, err
		}
		f, err = fsys.Create(tmp)
	}
	if err != nil {
		return nil, err
	}
	return &fileWriter{fsys: fsys, name: name, File: f}, nil
}

func (w *fileWriter) commit() error {
	if err := w.Sync(); err != nil {
		return errors.Join(err, w.abort())
	}
	if err := w.Close(); err != nil {
		return errors.Join(err, w.fsys.Remove(w.Name()))
	}
	if err := w.fsys.Rename(w.Name(), w.name); err != nil {
		return errors.Join(err, w.fsys.Remove(w.Name()))
	}
	return w.fsys.SyncDir(filepath.Dir(w.name))
}

func (w *fileWriter) abort() error {
	return errors.Join(w.Close(), w.fsys.Remove(w.Name()))
}
