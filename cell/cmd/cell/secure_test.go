package main

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/certs"
	"github.com/cellway/cellway/infra/problem"
)

// TestNoRequestOutlivesItsCertificate: on a connection that stays open beyond the end of the
// certificate that opened it nothing is asked of the cell any more. Shortly before, the
// connection is given up, so that who has a newer one is never refused.
func TestNoRequestOutlivesItsCertificate(t *testing.T) {
	t.Parallel()
	ca, err := certs.OpenCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	part := func(role, id string) *certs.Identity {
		t.Helper()
		dir := t.TempDir()
		if err := ca.Issue(dir, certs.Request{Role: role, ID: id}); err != nil {
			t.Fatal(err)
		}
		i, err := certs.OpenIdentity(dir, role, id, certs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	var later, asked, connections atomic.Int64 // later: how far on the cell's clock is
	work := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	server := httptest.NewUnstartedServer(inTime(byRole(work, work), func() time.Time { return time.Now().Add(time.Duration(later.Load())) }))
	server.Listener = tls.NewListener(server.Listener, part(certs.RoleCell, "c1").ServerConfig(certs.RoleRouter, certs.RoleMover))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	for role, path := range map[string]string{certs.RoleRouter: "/v1/projects", certs.RoleMover: transfer.Prefix + "fence"} {
		transport := &http.Transport{TLSClientConfig: part(role, "1").ClientConfig(certs.RoleCell, "c1")}
		t.Cleanup(transport.CloseIdleConnections)
		for _, tt := range []struct {
			method string
			after  time.Duration // of the life of the certificate
			status int
			opens  bool // a connection
			closes bool // it
		}{
			{"POST", 0, 200, true, false},
			{"POST", certs.DevLife - 2*idleTimeout, 200, false, false},
			{"POST", certs.DevLife - idleTimeout/2, 200, false, true},
			{"POST", 0, 200, true, false},
			{"POST", certs.DevLife + time.Second, 421, false, true},
			{"HEAD", 0, 200, true, false},
			{"HEAD", certs.DevLife + time.Second, 421, false, true},
		} {
			later.Store(int64(tt.after))
			before, open := asked.Load(), connections.Load()
			r, err := http.NewRequestWithContext(t.Context(), tt.method, "https://"+server.Listener.Addr().String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			said, kind := problem.Read(resp), problem.Kind(resp.Header.Get(token.RefusalHeader))
			if tt.method != "HEAD" {
				kind = problem.KindOf(said)
			}
			served, opened := asked.Load() > before, connections.Load() > open
			if resp.StatusCode != tt.status || served != (tt.status == 200) || opened != tt.opens || resp.Close != tt.closes {
				t.Errorf("%s, %s after %v: got %d; it was served: %v, opened a connection: %v, which ends: %v", role, tt.method, tt.after, resp.StatusCode, served, opened, resp.Close)
			}
			if tt.status == 421 && kind != problem.AssertionRefused {
				t.Errorf("%s, %s: got %v, %v", role, tt.method, said, resp.Header)
			}
		}
	}
}
