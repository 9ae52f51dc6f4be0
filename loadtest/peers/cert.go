package peers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// A certificate is the one that all proxies show: ECDSA P-256, made for this run.
type certificate struct{ certFile, keyFile, bothFile, hostsDir string }

func newCertificate(dir string) (certificate, error) {
	hosts := filepath.Join(dir, "hosts") // in the form that our router reads
	c := certificate{filepath.Join(hosts, "default.crt"), filepath.Join(hosts, "default.key"), filepath.Join(dir, "both.pem"), hosts}
	if err := os.Mkdir(hosts, 0o700); err != nil {
		return c, fmt.Errorf("make directory: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, fmt.Errorf("make certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "*." + baseDomain}, DNSNames: []string{"*." + baseDomain},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return c, fmt.Errorf("make certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return c, fmt.Errorf("make certificate: %w", err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	return c, errors.Join(
		os.WriteFile(c.certFile, certPEM, 0o600), os.WriteFile(c.keyFile, keyPEM, 0o600),
		os.WriteFile(c.bothFile, append(certPEM, keyPEM...), 0o600))
}

// newKey is a signing key of this run, in the form that the router takes.
func newKey() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return "peers:" + base64.StdEncoding.EncodeToString(b)
}
