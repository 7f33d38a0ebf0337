package settings

import (
	"encoding/json"
	"fmt"
	"github.com/ipfs/kubo/config"
	"os"
	"path/filepath"

	"github.com/ipfs-aws/ipfs-aws/internal/durable"
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
	return durable.WriteFile(filepath.Join(root, config.DefaultConfigFile), append(b, '\n'), 0o600)
}
