package compose

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipfs-aws/ipfs-aws/internal/local/localca"
)

// Where things are in the folder.
const (
	secretsDir  = "secrets"
	credentials = "rest_credentials" // user:password
	accessKey   = "s3_access_key"
	secretKey   = "s3_secret_key"
	s3Env       = "s3.env"
	tlsDir      = "tls"
)

// doors are the names under which the edge is reached: subdomain gateways too.
var doors = []string{"localhost", "*.localhost", "*.ipfs.localhost", "*.ipns.localhost", "127.0.0.1", "::1"}

// Prepare makes what is missing in the folder, and renews the certificate if it ends
// soon.
func Prepare(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, secretsDir), 0o755); err != nil {
		return fmt.Errorf("make the folder of the secrets: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("close the folder %s to others: %w", dir, err)
	}
	for name, content := range map[string]func() string{
		credentials:      func() string { return "admin:" + readable(20) },
		"cluster_secret": func() string { return hex.EncodeToString(random(32)) },
		"cluster_seed":   func() string { return hex.EncodeToString(random(32)) },
		"swarm_key":      func() string { return "/key/swarm/psk/1.0.0/\n/base16/\n" + hex.EncodeToString(random(32)) + "\n" },
		accessKey:        func() string { return "LOCAL" + strings.ToUpper(readable(15)) },
		secretKey:        func() string { return readable(40) },
	} {
		if _, err := once(filepath.Join(dir, secretsDir, name), content); err != nil {
			return err
		}
	}
	access, err := Secret(dir, accessKey)
	if err != nil {
		return err
	}
	secret, err := Secret(dir, secretKey)
	if err != nil {
		return err
	}
	if _, err := once(filepath.Join(dir, s3Env), func() string {
		return "ROOT_ACCESS_KEY=" + access + "\nROOT_SECRET_KEY=" + secret + "\n"
	}); err != nil {
		return err
	}
	return localca.Ensure(filepath.Join(dir, tlsDir), doors, 0o444, time.Now())
}

// Secret reads one of the secrets.
func Secret(dir, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, secretsDir, name))
	if err != nil {
		return "", fmt.Errorf("read a secret of the deployment: %w", err)
	}
	return string(b), nil
}

// once writes a file that is not there, as a whole, and reports whether it did.
func once(path string, content func() string) (made bool, err error) {
	if _, err := os.Lstat(path); err == nil {
		return false, nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return false, fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.WriteString(content())
	err = errors.Join(err, f.Chmod(0o444), f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path) // fails if another was faster
	}
	err = errors.Join(err, os.Remove(f.Name()))
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("write %s: %w", path, err)
	}
	return true, nil
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
