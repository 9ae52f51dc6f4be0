package e2e

import (
	"crypto/tls"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/certs"
	"github.com/cellway/cellway/infra/stack"
)

// TestEverythingOverTLS: with `cellway up --tls` tenants work over TLS, routers,
// cells and movers know each other by certificates, a tenant moves while it works,
// and nobody gets past the router.
func TestEverythingOverTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a whole stack")
	}
	w, err := start(stack.Options{Cells: 2, Routers: 1, TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	secure := &shared{world: w}
	defer func() {
		if err := secure.stop(); err != nil {
			t.Error(err)
		}
	}()
	from, to := w.cell(1), w.cell(2)
	c := w.work(t, 1, from, to)
	c.more(t, from, 20)
	wantPhase(t, w.move(t, directory.NewMove{Tenant: c.tenants[0].ID, Target: to}), directory.Watching)
	c.more(t, to, 20)
	c.wantNoFaults(t, from, to)
	c.rest(t)
	t.Run("X8", func(t *testing.T) { w.askedDirectly(t) })
}

// askedDirectly asks a cell past the router, as those who have no certificate, or
// one that does not count.
func (w *world) askedDirectly(t *testing.T) {
	url := w.State().Cells[0].URL
	ca, err := certs.OpenCA(filepath.Dir(w.State().Authority))
	if err != nil {
		t.Fatal(err)
	}
	other, err := certs.OpenCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	shown := func(ca *certs.CA, r certs.Request) []tls.Certificate {
		t.Helper()
		dir := t.TempDir()
		if err := ca.Issue(dir, r); err != nil {
			t.Fatal(err)
		}
		c, err := tls.LoadX509KeyPair(filepath.Join(dir, certs.CertFile), filepath.Join(dir, certs.KeyFile))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{c}
	}
	for name, tt := range map[string]struct {
		certs []tls.Certificate
		url   string
		want  int // status; 0: no TLS
	}{
		"no certificate":            {nil, url, 0},
		"no TLS":                    {nil, "http://" + url[len("https://"):], http.StatusBadRequest},
		"a wrong authority":         {shown(other, certs.Request{Role: certs.RoleRouter, ID: "router-1"}), url, 0},
		"an expired one":            {shown(ca, certs.Request{Role: certs.RoleRouter, ID: "router-1", Life: -time.Second}), url, 0},
		"another cell's":            {shown(ca, certs.Request{Role: certs.RoleCell, ID: "c2"}), url, http.StatusUnauthorized},
		"a router's, no assertion":  {shown(ca, certs.Request{Role: certs.RoleRouter, ID: "router-1"}), url, http.StatusUnauthorized},
		"one for hosts, not a part": {shown(ca, certs.Request{Hosts: []string{"127.0.0.1"}}), url, 0},
	} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{Certificates: tt.certs, InsecureSkipVerify: true}} //nolint:gosec // it is the cell that must refuse
		req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, tt.url+"/v1/projects", nil)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		if resp, err := (&http.Client{Transport: tr}).Do(req); err == nil {
			got = resp.StatusCode
			_ = resp.Body.Close()
		}
		tr.CloseIdleConnections()
		if got != tt.want {
			t.Errorf("%s: got status %d, want %d (0 is no TLS)", name, got, tt.want)
		}
	}
}
