package edge

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// TLSConfig names the certificate (with its chain) and the key of the two front
// doors, PEM. They are read again when the file of the certificate has changed, so
// that a renewed one is taken up without a restart.
type TLSConfig struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// certificate is the current one; safe for concurrent use.
type certificate struct {
	cfg TLSConfig

	mu      sync.Mutex
	current *tls.Certificate
	changed time.Time
}

// serverConfig offers HTTP/1.1 alone: that an answer may begin, and even end, while
// the body is still being sent is a matter of this protocol (see linger).
func (c *TLSConfig) serverConfig() (*tls.Config, error) {
	cert := &certificate{cfg: *c}
	if _, err := cert.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{GetCertificate: cert.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.cfg.Certificate)
	if err == nil && (c.current == nil || !info.ModTime().Equal(c.changed)) {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(c.cfg.Certificate, c.cfg.Key); err == nil {
			c.current, c.changed = &pair, info.ModTime()
		}
	}
	if c.current == nil {
		return nil, fmt.Errorf("read the edge's certificate: %w", err)
	}
	return c.current, nil // the one before, while files are being replaced
}
