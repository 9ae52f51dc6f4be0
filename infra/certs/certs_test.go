package certs

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := OpenCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *CA, dir string, r Request) {
	t.Helper()
	if err := ca.Issue(dir, r); err != nil {
		t.Fatal(err)
	}
}

// pair puts a certificate for hosts into dir as NAME.crt and NAME.key.
func pair(t *testing.T, ca *CA, dir, name string, hosts ...string) {
	t.Helper()
	from := t.TempDir()
	issue(t, ca, from, Request{Hosts: hosts})
	for ext, file := range map[string]string{".crt": CertFile, ".key": KeyFile} {
		copyFile(t, filepath.Join(from, file), filepath.Join(dir, name+ext))
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shake does one handshake over a real socket and says what both sides made of
// it. The client reads a byte: in TLS 1.3 it hears of a refusal only then.
func shake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, fromClient, fromServer error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served := make(chan error, 1)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			served <- err
			return
		}
		defer nc.Close()
		s := tls.Server(nc, server)
		if err := s.Handshake(); err != nil {
			served <- err
			return
		}
		_, err = s.Write([]byte("x"))
		served <- err
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := tls.Client(nc, client)
	if err := c.Handshake(); err != nil {
		nc.Close() // who has not said anything says nothing more
		return state, err, <-served
	}
	_, err = c.Read(make([]byte, 1))
	return c.ConnectionState(), err, <-served
}

// trusting is a client that asks for name.
func trusting(ca *CA, name string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.Authority())
	return &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS12}
}

func TestStartFailsInOneLine(t *testing.T) {
	t.Parallel()
	ca, other := newCA(t), newCA(t)
	for name, tt := range map[string]struct {
		make func(dir string)
		want string
	}{
		"nothing there":     {func(string) {}, "no pair"},
		"no key":            {func(dir string) { pair(t, ca, dir, "a", "a.test"); os.Remove(filepath.Join(dir, "a.key")) }, "a.key"},
		"expired":           {func(dir string) { expired(t, ca, dir) }, "expired at"},
		"not a certificate": {func(dir string) { os.WriteFile(filepath.Join(dir, "a.crt"), []byte("x"), 0o600) }, "a."},
		"another's key": {func(dir string) {
			pair(t, ca, dir, "a", "a.test")
			pair(t, ca, dir, "b", "b.test")
			copyFile(t, filepath.Join(dir, "b.key"), filepath.Join(dir, "a.key"))
			os.Remove(filepath.Join(dir, "b.crt"))
		}, "does not match"},
		"a bad default beside a good one": {func(dir string) {
			pair(t, ca, dir, "a", "a.test")
			os.WriteFile(filepath.Join(dir, "default.crt"), []byte("x"), 0o600)
		}, "default.key"},
	} {
		dir := t.TempDir()
		tt.make(dir)
		_, err := OpenHosts(dir, Options{})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("hosts, %s: got %v, want one line with %q", name, err, tt.want)
		}
	}
	for name, tt := range map[string]struct {
		make func(dir string)
		want string
	}{
		"nothing there":  {func(string) {}, CertFile},
		"expired":        {func(dir string) { issue(t, ca, dir, Request{Role: RoleCell, ID: "c1", Life: -time.Second}) }, "expired at"},
		"another's":      {func(dir string) { issue(t, ca, dir, Request{Role: RoleCell, ID: "c2"}) }, "cell/c2"},
		"another role's": {func(dir string) { issue(t, ca, dir, Request{Role: RoleRouter, ID: "c1"}) }, "router/c1"},
		"no name":        {func(dir string) { issue(t, ca, dir, Request{Hosts: []string{"c1"}}) }, "URI"},
		"no authority": {func(dir string) {
			issue(t, ca, dir, Request{Role: RoleCell, ID: "c1"})
			os.Remove(filepath.Join(dir, CAFile))
		}, CAFile},
		"a strange authority": {func(dir string) {
			issue(t, ca, dir, Request{Role: RoleCell, ID: "c1"})
			os.WriteFile(filepath.Join(dir, CAFile), other.Authority(), 0o600)
		}, "not of an authority"},
	} {
		dir := t.TempDir()
		tt.make(dir)
		_, err := OpenIdentity(dir, RoleCell, "c1", Options{})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("identity, %s: got %v, want one line with %q", name, err, tt.want)
		}
	}
}

func expired(t *testing.T, ca *CA, dir string) {
	t.Helper()
	from := t.TempDir()
	issue(t, ca, from, Request{Hosts: []string{"a.test"}, Life: -time.Second})
	copyFile(t, filepath.Join(from, CertFile), filepath.Join(dir, "a.crt"))
	copyFile(t, filepath.Join(from, KeyFile), filepath.Join(dir, "a.key"))
}
