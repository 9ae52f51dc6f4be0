// Package certs keeps the certificates of a process: those that it shows to the
// world, one per host name, and the one by which the parts of Cellway know each
// other.
//
// Files are read again when they change, without a restart. What is not good is
// refused and reported in one line, and what was good before goes on; only a
// start fails. The files are those that cert-manager, Vault and step-ca write,
// and that CA, the authority for development, writes itself.
package certs

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// The names of the files in a directory with one certificate.
const (
	CertFile = "tls.crt" // the leaf first, then what is between it and the authority
	KeyFile  = "tls.key"
	CAFile   = "ca.crt" // whom to trust; while an authority is replaced, both
)

// Options are what is the same for all kinds of certificates.
type Options struct {
	Log   *slog.Logger
	Every time.Duration    // how often the files are looked at; 0 is 2 s
	Now   func() time.Time // nil is time.Now
}

const defaultEvery = 2 * time.Second

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Every <= 0 {
		o.Every = defaultEvery
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// loadPair reads a certificate with its key. One that does not count now is no
// certificate.
func loadPair(certFile, keyFile string, now time.Time) (*tls.Certificate, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate's key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with %s: %w", certFile, filepath.Base(keyFile), err)
	}
	return &pair, checkTime(certFile, pair.Leaf, now)
}

func checkTime(name string, leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("certificate %s: expired at %s", name, leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("certificate %s: not valid before %s", name, leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// isECDSA reports whether a certificate's key makes the handshake cheap.
func isECDSA(c *tls.Certificate) bool {
	_, ok := c.Leaf.PublicKey.(*ecdsa.PublicKey)
	return ok
}

// suites are the cipher suites below TLS 1.3, whose own are not for choice: those
// that HTTP/2 allows, each with forward secrecy.
func suites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}
