package certs

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"strings"
	"testing"
)

// opened is the certificates of dir.
func opened(t *testing.T, dir string) *Hosts {
	t.Helper()
	h, err := OpenHosts(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// localhost has one certificate, which it shows by default, and a client that trusts it.
func localhost(t *testing.T) (*Hosts, *tls.Config) {
	t.Helper()
	ca, dir := newCA(t), t.TempDir()
	pair(t, ca, dir, Default, "localhost")
	return opened(t, dir), trusting(ca, "localhost")
}

func TestHostsShowEachNameItsCertificate(t *testing.T) {
	t.Parallel()
	ca, dir := newCA(t), t.TempDir()
	pair(t, ca, dir, "wild", "*.cellway.test", "cellway.test")
	pair(t, ca, dir, "shop", "shop.acme.test")
	h := opened(t, dir)
	for _, tt := range []struct{ host, want string }{
		{"acme.cellway.test", "wild"},
		{"ACME.Cellway.test.", "wild"},
		{"cellway.test", "wild"},
		{"shop.acme.test", "shop"},
		{"a.b.cellway.test", ""},
		{"other.test", ""},
		{"", ""},
	} {
		got, ok := h.Covering(tt.host)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("%q: got %q, want %q", tt.host, got, tt.want)
		}
		_, err, _ := shake(t, h.Config(), trusting(ca, strings.TrimSuffix(tt.host, ".")))
		if tt.host != "" && (err == nil) != (tt.want != "") {
			t.Errorf("%q: handshake: %v", tt.host, err)
		}
	}
	if _, err, _ := shake(t, h.Config(), trusting(ca, "other.test")); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a name that nobody has: got %v", err)
	}
}

func TestHostsFallBackToTheDefaultOnly(t *testing.T) {
	t.Parallel()
	ca, dir := newCA(t), t.TempDir()
	pair(t, ca, dir, Default, "localhost", "127.0.0.1")
	h := opened(t, dir)
	for _, host := range []string{"127.0.0.1", "localhost"} {
		if _, err, _ := shake(t, h.Config(), trusting(ca, host)); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if name, ok := h.Covering("other.test"); !ok || name != Default {
		t.Errorf("got %q, want the default", name)
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	t.Parallel()
	h, c := localhost(t)
	c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err, _ := shake(t, h.Config(), c); err == nil {
		t.Error("TLS 1.1 was served")
	}
	c.MaxVersion = tls.VersionTLS12
	state, err, _ := shake(t, h.Config(), c)
	if err != nil || state.Version != tls.VersionTLS12 {
		t.Errorf("TLS 1.2: got %x, %v", state.Version, err)
	}
}

// TestTicketsOutliveOneKey: a session is resumed after the key has changed, and
// not when its key is forgotten.
func TestTicketsOutliveOneKey(t *testing.T) {
	t.Parallel()
	h, c := localhost(t)
	c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	resumed := func() bool {
		t.Helper()
		state, err, _ := shake(t, h.Config(), c)
		if err != nil {
			t.Fatal(err)
		}
		return state.DidResume
	}
	if resumed() {
		t.Fatal("the first connection was resumed")
	}
	h.rotateTickets()
	if !resumed() {
		t.Error("not resumed after one rotation")
	}
	for range ticketKeys {
		h.rotateTickets()
	}
	if resumed() {
		t.Error("resumed by a ticket whose key is forgotten")
	}
}

// TestOneBadPairKeepsNobodyElseOut: a tenant's domain that has expired is left
// out, whether at the start or later, and the others are served.
func TestOneBadPairKeepsNobodyElseOut(t *testing.T) {
	t.Parallel()
	ca, dir := newCA(t), t.TempDir()
	expired(t, ca, dir)
	pair(t, ca, dir, "b", "b.test")
	var log bytes.Buffer
	h, err := OpenHosts(dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Covering("a.test"); ok {
		t.Error("the expired one is served")
	}
	if _, ok := h.Covering("b.test"); !ok || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "a.crt") {
		t.Errorf("b.test is served: %v; log %q", ok, log.String())
	}
	pair(t, ca, dir, "a", "a.test")
	h.watch.look(t.Context())
	if _, ok := h.Covering("a.test"); !ok {
		t.Error("the new one is not served")
	}
}
