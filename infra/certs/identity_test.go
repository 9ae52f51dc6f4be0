package certs

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestF33ACertificateNearItsEnd: it is told once in time and once when it is too
// late, in the log and by the metric; the certificate serves on until there is a
// good one, and one that is over never takes its place.
func TestF33ACertificateNearItsEnd(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	ca, dir := newCA(t), t.TempDir()
	issue(t, ca, dir, Request{Role: RoleCell, ID: "c1", Life: 30 * day})
	var log bytes.Buffer
	now := time.Now()
	i, err := OpenIdentity(dir, RoleCell, "c1", Options{
		Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	i.Register(reg)
	at := func(days time.Duration, want string) {
		t.Helper()
		log.Reset()
		now = time.Now().Add(days * day)
		for range 3 {
			i.watch.look(t.Context())
			i.watch.remind(t.Context())
		}
		if got := log.String(); strings.Count(got, "\n") != min(1, len(want)) || !strings.Contains(got, want) {
			t.Errorf("after %d days: got %q, want one line with %q, or none", days, got, want)
		}
	}
	svid, _ := i.GetX509SVID()
	at(1, "")
	at(24, "near its end")
	at(25, "")
	at(31, "has expired")
	issue(t, ca, dir, Request{Role: RoleCell, ID: "c1", Life: 2 * day}) // over by then
	at(32, "not loaded")
	if kept, _ := i.GetX509SVID(); kept != svid {
		t.Error("a certificate that is over was taken")
	}
	if n, err := testutil.GatherAndCount(reg, "tls_certificate_expiry_timestamp_seconds"); n != 2 || err != nil {
		t.Errorf("got %d expiries (%v), want the certificate's and the authority's", n, err)
	}
	issue(t, ca, dir, Request{Role: RoleCell, ID: "c1", Life: 90 * day})
	at(33, "loaded again")
}

// TestReload: what is good is taken, what is not is refused and said once, and
// what was there goes on.
func TestReload(t *testing.T) {
	t.Parallel()
	ca, dir := newCA(t), t.TempDir()
	issue(t, ca, dir, Request{Role: RoleCell, ID: "c1"})
	var log bytes.Buffer
	i, err := OpenIdentity(dir, RoleCell, "c1", Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	i.Register(reg)
	serial := func() string { s, _ := i.GetX509SVID(); return s.Certificates[0].SerialNumber.String() }
	first := serial()
	issue(t, ca, dir, Request{Role: RoleCell, ID: "c1"})
	i.watch.look(t.Context())
	second := serial()
	if first == second {
		t.Fatal("the new certificate was not taken")
	}
	log.Reset()
	if err := os.WriteFile(filepath.Join(dir, KeyFile), []byte("half a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	i.watch.look(t.Context())
	if log.Len() > 0 {
		t.Errorf("files may be half written; it was said at once: %s", &log)
	}
	for range 3 {
		i.watch.look(t.Context())
	}
	if got := strings.Count(log.String(), "\n"); got != 1 || serial() != second {
		t.Errorf("got %d lines, want 1, and the old certificate: %s", got, &log)
	}
	issue(t, ca, dir, Request{Role: RoleCell, ID: "c1", Life: -time.Second})
	i.watch.look(t.Context())
	if serial() != second {
		t.Error("an expired certificate was taken")
	}
	issue(t, ca, dir, Request{Role: RoleCell, ID: "c1"})
	i.watch.look(t.Context())
	if serial() == second {
		t.Error("a good certificate after bad ones was not taken")
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if n, err := testutil.GatherAndCount(reg, "tls_certificate_expiry_timestamp_seconds"); err != nil || n != 2 {
		t.Errorf("got %d expiries (%v), want the certificate's and the authority's", n, err)
	}
}

// TestWhoMayCall: both sides name each other; a stranger, an expired one and one
// of another role are refused (X8).
func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	ca, other := newCA(t), newCA(t)
	open := func(role, id string) *Identity {
		t.Helper()
		dir := t.TempDir()
		issue(t, ca, dir, Request{Role: role, ID: id})
		i, err := OpenIdentity(dir, role, id, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	cell, router := open(RoleCell, "c1"), open(RoleRouter, "r1")
	server := cell.ServerConfig(RoleRouter)
	if _, err, served := shake(t, server, router.ClientConfig(RoleCell, "c1")); err != nil || served != nil {
		t.Errorf("a router: got %v, %v", err, served)
	}
	if _, err, _ := shake(t, server, router.ClientConfig(RoleCell, "c2")); err == nil {
		t.Error("c1 passed for c2")
	}
	foreign := func(ca *CA, r Request) *tls.Config {
		dir := t.TempDir()
		issue(t, ca, dir, r)
		c, err := tls.LoadX509KeyPair(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile))
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{c}}
	}
	for name, client := range map[string]*tls.Config{
		"no certificate":        {InsecureSkipVerify: true},
		"a wrong authority":     foreign(other, Request{Role: RoleRouter, ID: "r1"}),
		"an expired one":        foreign(ca, Request{Role: RoleRouter, ID: "r1", Life: -time.Second}),
		"another cell's":        foreign(ca, Request{Role: RoleCell, ID: "c2"}),
		"its own":               foreign(ca, Request{Role: RoleCell, ID: "c1"}),
		"a mover's":             foreign(ca, Request{Role: RoleMover, ID: "m1"}),
		"a role that is longer": foreign(ca, Request{Role: "router/r1", ID: "cell"}),
		"a role that begins so": foreign(ca, Request{Role: "router2", ID: "r1"}),
		"one without a name":    foreign(ca, Request{Hosts: []string{"router"}}),
		"the name as a host's":  foreign(ca, Request{Hosts: []string{"spiffe://cellway/router/r1"}}),
	} {
		if _, err, served := shake(t, server, client); err == nil || served == nil {
			t.Errorf("%s: got %v at the client, %v at the server, want it refused", name, err, served)
		}
	}
}
