// Package localca keeps a certificate authority of its own in a folder, and one
// certificate for this machine, so that a deployment on it has HTTPS as the real
// one has.
//
//	ca.crt           the authority's certificate; clients are told to trust it
//	ca.key           its key, mode 0600; nothing but this package reads it
//	server/tls.crt   the server's certificate, and the authority's after it
//	server/tls.key   its key; the folder is all that a server has to see
//
// Files are replaced as a whole. A crash leaves the old one or the new one of each;
// a server certificate that does not fit its key or the authority is made anew by
// the next call, as is one that ends soon or lacks a name. The authority is made
// once, and anew only when it ends soon or is damaged: clients trust it by its
// content.
//
// It is not safe for concurrent use on one folder.
package localca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ipfs-aws/ipfs-aws/internal/durable"
)

// Names of the files.
const (
	CAFile   = "ca.crt"
	CertFile = "server/tls.crt"
	KeyFile  = "server/tls.key"

	caKeyFile = "ca.key"
)

const (
	day    = 24 * time.Hour
	caLife = 10 * 365 * day
	// serverLife is what browsers accept at most (398 days), less a few.
	serverLife = 390 * day
	// renewBefore the end, as a third of the life: who starts a deployment once in
	// eight months never meets a certificate that has ended.
	renewBefore = serverLife / 3
	// early lets a client whose clock is late take a new certificate.
	early = time.Hour
)

// Ensure makes the folder hold an authority and a server certificate for the names
// (host names or IP addresses) that is good for months, making what is missing.
// The server's key gets the mode given, as the server may be another user in a
// container.
func Ensure(dir string, names []string, keyMode os.FileMode, now time.Time) error {
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(CertFile)), 0o755); err != nil {
		return fmt.Errorf("make the folder of the certificates: %w", err)
	}
	ca, err := load(dir, CAFile, caKeyFile)
	if err != nil || !ca.good(now) || !ca.leaf.IsCA {
		if ca, err = makeCA(dir, now); err != nil {
			return err
		}
	}
	server, err := load(dir, CertFile, KeyFile)
	if err == nil && server.good(now) && server.covers(names) && server.leaf.CheckSignatureFrom(ca.leaf) == nil {
		return nil
	}
	return makeServer(dir, ca, names, keyMode, now)
}

// pair is a certificate and its key.
type pair struct {
	leaf *x509.Certificate
	key  *ecdsa.PrivateKey
}

func load(dir, cert, key string) (*pair, error) {
	p, err := tls.LoadX509KeyPair(filepath.Join(dir, cert), filepath.Join(dir, key))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, cert), err)
	}
	k, ok := p.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T", filepath.Join(dir, key), p.PrivateKey)
	}
	return &pair{leaf: p.Leaf, key: k}, nil
}

func (p *pair) good(now time.Time) bool {
	return now.After(p.leaf.NotBefore) && now.Add(renewBefore).Before(p.leaf.NotAfter)
}

func (p *pair) covers(names []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return p.leaf.VerifyHostname(n) != nil })
}

func makeCA(dir string, now time.Time) (*pair, error) {
	t, err := template("ipfs-aws local authority", now, caLife)
	if err != nil {
		return nil, err
	}
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the authority's key: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make the authority's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the authority's certificate: %w", err)
	}
	if err := errors.Join(writeKey(dir, caKeyFile, key, 0o600), writeCerts(dir, CAFile, leaf)); err != nil {
		return nil, err
	}
	return &pair{leaf: leaf, key: key}, nil
}

func makeServer(dir string, ca *pair, names []string, keyMode os.FileMode, now time.Time) error {
	t, err := template("ipfs-aws on this machine", now, serverLife)
	if err != nil {
		return err
	}
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the server's key: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.leaf, &key.PublicKey, ca.key)
	if err != nil {
		return fmt.Errorf("make the server's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("make the server's certificate: %w", err)
	}
	return errors.Join(writeKey(dir, KeyFile, key, keyMode), writeCerts(dir, CertFile, leaf, ca.leaf))
}

func template(name string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-early), NotAfter: now.Add(life),
	}, nil
}

func writeKey(dir, name string, key *ecdsa.PrivateKey, mode os.FileMode) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return durable.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), mode)
}

func writeCerts(dir, name string, certs ...*x509.Certificate) error {
	var b bytes.Buffer
	for _, c := range certs {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return fmt.Errorf("encode %s: %w", name, err)
		}
	}
	return durable.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644)
}
