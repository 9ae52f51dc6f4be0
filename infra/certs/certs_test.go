package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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

func TestHostsShowEachNameItsCertificate(t *testing.T) {
	t.Parallel()
	ca, dir := newCA(t), t.TempDir()
	pair(t, ca, dir, "wild", "*.cellway.test", "cellway.test")
	pair(t, ca, dir, "shop", "shop.acme.test")
	h, err := OpenHosts(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
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
	h, err := OpenHosts(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
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
	ca, dir := newCA(t), t.TempDir()
	pair(t, ca, dir, Default, "localhost")
	h, err := OpenHosts(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := trusting(ca, "localhost")
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
	ca, dir := newCA(t), t.TempDir()
	pair(t, ca, dir, Default, "localhost")
	h, err := OpenHosts(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := trusting(ca, "localhost")
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

// TestKeepRenews: within `cellway up` a certificate is renewed at half its life.
func TestKeepRenews(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ca, err := OpenCA(root)
		if err != nil {
			t.Fatal(err)
		}
		dir, r := filepath.Join(root, "c1"), Request{Role: RoleCell, ID: "c1"}
		if err := ca.Issue(dir, r); err != nil {
			t.Fatal(err)
		}
		expires := func() time.Time {
			p, err := loadPair(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return p.Leaf.NotAfter
		}
		first := expires()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			ca.Keep(ctx, dir, r, func(err error) { t.Error(err) })
		}()
		time.Sleep(DevLife/2 + time.Second) // of the bubble's clock
		synctest.Wait()
		if got := expires().Sub(first); got < DevLife/2-time.Minute {
			t.Errorf("got %v more, want half a life", got)
		}
		cancel()
		<-ended
	})
}

func TestTheAuthorityStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, err := OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	two, err := OpenCA(dir)
	if err != nil || !bytes.Equal(one.Authority(), two.Authority()) {
		t.Errorf("the second start made another authority (%v)", err)
	}
	if err := os.WriteFile(filepath.Join(dir, caKeyFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCA(dir); err == nil {
		t.Error("an authority whose key is broken was taken, or made again")
	}
}
