package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ipfs/kubo/config"
)

// ReadConfig reads the config of the repo in a folder as a tree, so that what
// is not known here stays as it is.
func ReadConfig(root string) (map[string]any, error) {
	path := filepath.Join(root, config.DefaultConfigFile)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the config of the repo: %w", err)
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.UseNumber()
	var conf map[string]any
	if err := d.Decode(&conf); err != nil {
		return nil, fmt.Errorf("the config of the repo, %s, is not JSON (%w): correct it, or restore it from a backup", path, err)
	}
	return conf, nil
}

// WriteConfig replaces the config of the repo in a folder by one that is whole
// and on the disk when it returns; a crash leaves the old one or the new one. The
// caller holds the repo's lock.
func WriteConfig(root string, conf map[string]any) error {
	b, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the config: %w", err)
	}
	return WriteFile(filepath.Join(root, config.DefaultConfigFile), append(b, '\n'), 0o600)
}

// WriteFile replaces a file by one that is whole and synced.
func WriteFile(path string, b []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-"+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// syncDir makes a rename durable. Some network file systems refuse to sync a
// directory, and need not: their server has committed it.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	if err := errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
