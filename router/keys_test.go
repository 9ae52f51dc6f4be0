package router

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/sign"
	"github.com/cellway/cellway/router/table"
)

// TestKeyNamesTheTenant: a key is bound to the tenant and to no cell, so that it
// is valid after any number of moves; it must agree with the other sources.
func TestKeyNamesTheTenant(t *testing.T) {
	t.Parallel()
	w := directorytest.NewKeyWorld(t)
	m, acme, key, record := w.Memory, w.Acme, w.Text, w.Key
	var ring token.Ring
	refresh := func() {
		t.Helper()
		c, err := m.Credentials(t.Context(), 0, 0)
		if err == nil {
			err = ring.Apply(c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	refresh()
	if _, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: "bolt"}); err != nil {
		t.Fatal(err)
	}
	chain := &identify.Chain{BaseDomain: "cellway.localhost", Ring: &ring}
	ask := func(target string) (identify.Result, error) {
		t.Helper()
		u, err := m.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tab := table.New()
		if err := tab.Apply(u); err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, target, nil)
		r.Host = "cellway.localhost"
		r.Header.Set("Authorization", "Bearer "+key)
		return chain.Identify(identify.HeadOf(r), tab.View())
	}
	for n := range 4 {
		res, err := ask("/t/acme/x")
		if err != nil || res.Entry.Tenant != acme.ID || res.Source != "token" || res.Claims.Subject != "key/"+record.ID {
			t.Fatalf("after %d moves: got %+v, %v", n, res, err)
		}
		to := []directory.CellID{"c2", "c1"}[n%2]
		p := directory.Placement{Tenant: acme.ID, Cell: to, Epoch: directory.Epoch(n + 2), State: directory.Active}
		if err := m.Place(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ask("/t/bolt/x"); !errors.Is(err, problem.TenantConflict) {
		t.Errorf("another tenant's path: got %v", err)
	}
	if err := m.RevokeKey(t.Context(), acme.ID, record.ID); err != nil {
		t.Fatal(err)
	}
	refresh()
	if _, err := ask("/t/acme/x"); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("revoked: got %v", err)
	}
}

// TestRevokedToken: a signed token that was revoked names nobody.
func TestRevokedToken(t *testing.T) {
	t.Parallel()
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := keys.Issue(token.Claims{Kind: token.Tenant, Tenant: 1, Subject: "ann"}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	claims, ok := token.Inspect(signed)
	if !ok || claims.Subject != "ann" {
		t.Fatalf("inspect: got %+v, %v", claims, ok)
	}
	var ring token.Ring
	gone := directory.RevokedToken{ID: claims.ID, Tenant: 1, ExpiresAt: time.Unix(claims.ExpiresAt, 0)}
	if err := ring.Apply(directory.Credentials{Version: 2, Tokens: []directory.RevokedToken{gone}}); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Host = "cellway.localhost"
	r.Header.Set("Authorization", "Bearer "+signed)
	chain := &identify.Chain{BaseDomain: "cellway.localhost", Keys: keys, Ring: &ring}
	if _, err := chain.Identify(identify.HeadOf(r), table.New().View()); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("got %v, want unauthenticated", err)
	}
}

// foreign is a verifier that takes one bearer for bolt's, and waives another.
type foreign struct{}

// Verify implements identify.Verifier.
func (foreign) Verify(bearer, _, _ string, _ time.Time) (identify.Bearer, error) {
	switch bearer {
	case "bolts":
		return identify.Bearer{Known: true, Slug: "bolt", Subject: "ann"}, nil
	case "odd":
		return identify.Bearer{Known: true, Slug: "no slug", Subject: "ann"}, nil
	case "waived":
		return identify.Bearer{Known: true, Waived: true}, nil
	case "bad":
		return identify.Bearer{Known: true}, problem.New(problem.Unauthenticated, "token is not valid")
	}
	return identify.Bearer{}, nil
}

// Recall implements identify.Verifier.
func (foreign) Recall(string, time.Time) (identify.Bearer, bool) { return identify.Bearer{}, false }

// TestForeignTokens: a token of an issuer names the tenant as our own does, must
// agree with the other sources, and never reaches a cell.
func TestForeignTokens(t *testing.T) {
	t.Parallel()
	tab := table.New()
	err := tab.Apply(directory.Update{Version: 1, Routes: []directory.Route{
		{Placement: directory.Placement{Tenant: 1, Cell: "c1", Epoch: 1, State: directory.Active}, Slug: "acme"},
		{Placement: directory.Placement{Tenant: 2, Cell: "c1", Epoch: 1, State: directory.Active}, Slug: "bolt"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	chain := &identify.Chain{BaseDomain: "cellway.localhost", Keys: keys, Others: foreign{}}
	for _, tt := range []struct {
		bearer, path string
		tenant       directory.TenantID
		err          error
		sent         bool // a token of ours in its place
	}{
		{"bolts", "/", 2, nil, true},
		{"bolts", "/t/bolt/x", 2, nil, true},
		{"bolts", "/t/acme/x", 0, problem.TenantConflict, false},
		{"odd", "/", 0, problem.Unauthenticated, false},
		{"bad", "/t/acme/x", 0, problem.Unauthenticated, false},
		{"waived", "/t/acme/x", 1, nil, false},
	} {
		r := httptest.NewRequest(http.MethodGet, tt.path, nil)
		r.Host = "cellway.localhost"
		r.Header.Set("Authorization", "Bearer "+tt.bearer)
		res, err := chain.Identify(identify.HeadOf(r), tab.View())
		if !errors.Is(err, tt.err) || res.Entry.Tenant != tt.tenant {
			t.Errorf("%s at %s: got %+v, %v", tt.bearer, tt.path, res, err)
		}
		if err != nil {
			continue
		}
		got, err := (&sign.Bearers{Keys: keys}).Of(res.Claims, res.Entry.Cell, time.Now())
		if err != nil || !res.Kept {
			t.Fatalf("%s: kept %v, %v", tt.bearer, res.Kept, err)
		}
		got = strings.TrimPrefix(got, "Bearer ")
		if c, err := keys.For(token.OfCell(res.Entry.Cell)).Verify(got, time.Now()); tt.sent && (err != nil || c.Tenant != tt.tenant || c.Subject != "ann") || !tt.sent && got != "" {
			t.Errorf("%s at %s: the cell gets %q: %+v, %v", tt.bearer, tt.path, got, c, err)
		}
	}
}
