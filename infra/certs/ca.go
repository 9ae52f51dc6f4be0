package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// DevDomain is the trust domain of the development authority.
const DevDomain = "cellway"

// DevLife is how long the certificates of the development authority count.
const DevLife = time.Hour

const (
	caKeyFile = "ca.key"
	caLife    = 365 * 24 * time.Hour
	backdate  = time.Minute // for clocks that are behind
)

// A CA is a certificate authority for development, tests and one machine: its key
// lies in a file. Elsewhere let cert-manager, Vault or step-ca write the files.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
	Now  func() time.Time
}

// A Request says what to certify. Zero fields are left out.
type Request struct {
	Role, ID string   // make the SPIFFE name
	Hosts    []string // host names and addresses
	Life     time.Duration
}

// OpenCA reads the authority in dir, or makes one there.
func OpenCA(dir string) (*CA, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, CAFile))
	if errors.Is(err, fs.ErrNotExist) {
		return makeCA(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	pair, err := loadPair(filepath.Join(dir, CAFile), filepath.Join(dir, caKeyFile), time.Now())
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("authority in %s: its key is not of ECDSA", dir)
	}
	return &CA{cert: pair.Leaf, key: key, pem: certPEM, Now: time.Now}, nil
}

func makeCA(dir string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	domain := &url.URL{Scheme: "spiffe", Host: DevDomain}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Cellway development authority"}, URIs: []*url.URL{domain},
		NotBefore: time.Now().Add(-backdate), NotAfter: time.Now().Add(caLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	ca := &CA{cert: cert, key: key, pem: block("CERTIFICATE", der), Now: time.Now}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return ca, writeFiles(dir, file{caKeyFile, keyPEM}, file{CAFile, ca.pem})
}

// Authority is the authority's certificate, in PEM.
func (ca *CA) Authority() []byte { return ca.pem }

// Issue writes a new key, its certificate and the authority's into dir. Who reads
// them between two writes finds a key that does not fit, and looks again.
func (ca *CA) Issue(dir string, r Request) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	if r.Life == 0 {
		r.Life = DevLife
	}
	template := &x509.Certificate{
		SerialNumber: serial(), NotBefore: ca.Now().Add(-backdate), NotAfter: ca.Now().Add(r.Life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if r.Role != "" {
		template.URIs = []*url.URL{{Scheme: "spiffe", Host: DevDomain, Path: "/" + r.Role + "/" + r.ID}}
	}
	for _, host := range r.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return fmt.Errorf("certify: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	return writeFiles(dir, file{CAFile, ca.pem}, file{KeyFile, keyPEM}, file{CertFile, block("CERTIFICATE", der)})
}

// Keep issues again at half of the certificate's life, until ctx ends. What fails
// is reported to failed and tried again after a minute.
func (ca *CA) Keep(ctx context.Context, dir string, r Request, failed func(error)) {
	if r.Life == 0 {
		r.Life = DevLife
	}
	pause := r.Life / 2
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = r.Life / 2
		if err := ca.Issue(dir, r); err != nil {
			failed(err)
			pause = min(pause, time.Minute)
		}
	}
}

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // never fails (crypto/rand)
	return n
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return block("PRIVATE KEY", der), nil
}

type file struct {
	name string
	data []byte
}

// writeFiles replaces each file as a whole; all are their owner's only.
func writeFiles(dir string, files ...file) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory of certificates: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path+".new", f.data, 0o600); err != nil {
			return fmt.Errorf("write certificate: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("write certificate: %w", err)
		}
	}
	return nil
}
