package server_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/token"
)

// TestACellSpeaksForItselfAlone calls what cells may, as c1, about c1 and about c2.
func TestACellSpeaksForItselfAlone(t *testing.T) {
	t.Parallel()
	m := withTwoCells(t)
	gone, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: "gone", Cell: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.DeleteTenant(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	b := serve(t, m, nil)
	auth := "Authorization: Bearer " + b.token(t, token.Cell)
	for _, tt := range []struct{ method, path, body string }{
		{"POST", "/v1/cells", `{"id":"CELL","address":"http://CELL.test","capacity":100,"incarnation":"i-CELL"}`},
		{"POST", "/v1/cells/CELL/heartbeat", `{"incarnation":"i-CELL"}`},
		{"POST", "/v1/cells/CELL/witness", `{"incarnation":"i-CELL","number":7}`},
		{"POST", "/v1/cells/CELL/abort_moves", `{"incarnation":"i-CELL","why":"a test"}`},
		{"POST", "/v1/cells/CELL/load", `{"incarnation":"i-CELL","tenants":[]}`},
		{"GET", "/v1/tenants?cell=CELL", ``},
		{"GET", "/v1/deletions?cell=CELL", ``},
		{"PUT", "/v1/cells/CELL/deletions/" + gone.ID.String(), `{"incarnation":"i-CELL","epoch":2,"purged":false}`},
	} {
		for cell, want := range map[string]bool{"c1": true, "c2": false, "C1": false, "c1 ": false} {
			path, body := strings.ReplaceAll(tt.path, "CELL", url.PathEscape(cell)), strings.ReplaceAll(tt.body, "CELL", cell)
			if got := b.call(t, tt.method, path, body, auth); (got.status < 300) != want || !want && got.status != 403 {
				t.Errorf("%s %s %s as c1: got %d %s", tt.method, path, body, got.status, got.body)
			}
		}
	}
	if got := b.call(t, "GET", "/v1/tenants", "", auth); got.status != 403 {
		t.Errorf("the tenants of all cells: got %d, want 403", got.status)
	}
	if got := b.call(t, "GET", "/v1/tenants?cell=c2&cell=c1", "", auth); got.status == 200 { // the first one counts
		t.Errorf("the tenants of c2, then c1: got %d %s", got.status, got.body)
	}
	nobody := "Authorization: Bearer " + b.issue(t, token.Claims{Kind: token.Cell})
	if got := b.call(t, "GET", "/v1/tenants?cell=", "", nobody); got.status != 403 {
		t.Errorf("the tenants of all cells, as a cell without a name: got %d, want 403", got.status)
	}
	if got := b.call(t, "GET", "/v1/deletions", "", auth); got.status != 403 {
		t.Errorf("the deletions of all cells: got %d, want 403", got.status)
	}
	c2 := "Authorization: Bearer " + b.issue(t, token.Claims{Kind: token.Cell, Subject: "c2"})
	if got := b.call(t, "PUT", "/v1/cells/c2/deletions/"+gone.ID.String(), `{"incarnation":"i-c2","epoch":2,"purged":false}`, c2); got.status != 404 {
		t.Errorf("another cell's deletion, as c2 of itself: got %d, want 404", got.status)
	}
	if got := b.call(t, "POST", "/v1/cells/c2/heartbeat", `{"incarnation":"i-c2"}`); got.status != 204 {
		t.Errorf("an operator about c2: got %d", got.status)
	}
}

// TestARouterSpeaksForItselfAlone: what it acknowledges, and says of a roll-out, counts as
// that of the router that its token names, or of one of those that share the token.
func TestARouterSpeaksForItselfAlone(t *testing.T) {
	t.Parallel()
	m := withTwoCells(t)
	b := serve(t, m, nil)
	for subject, may := range map[string]map[string]bool{
		"r1":   {"r1": true, "r2": false, "r11": false, "R1": false, "": true},
		"eu-*": {"eu-1": true, "eu-2": true, "us-1": false, "eu-*": false},
		"*":    {"r1": false, "": true},
		"":     {"r1": false, "": true},
	} {
		auth := "Authorization: Bearer " + b.issue(t, token.Claims{Kind: token.Router, Subject: subject})
		for router, want := range may {
			got := b.call(t, "GET", "/v1/table/changes?since=1&router="+url.QueryEscape(router), "", auth)
			if (got.status == 200) != want || !want && got.status != 403 && got.status != 400 {
				t.Errorf("%q as %q: got %d %s, may it: %v", router, subject, got.status, got.body, want)
			}
		}
	}
	auth := "Authorization: Bearer " + b.issue(t, token.Claims{Kind: token.Router, Subject: "r3"})
	if got := b.call(t, "GET", "/v1/table/changes?since=1&router=r4&router=r3&round=0", "", auth); got.status < 400 { // the first one counts
		t.Errorf("r4, then r3, as r3: got %d %s", got.status, got.body)
	}
	if got := b.call(t, "GET", "/v1/table/changes?since=1&router=r5", ""); got.status != 200 {
		t.Errorf("an operator as r5: got %d", got.status)
	}
	mark, err := m.Watermark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range mark.Routers {
		ids = append(ids, r.ID)
	}
	if got, want := strings.Join(ids, " "), "eu-1 eu-2 r1 r5"; got != want {
		t.Errorf("routers that were heard of: got %s, want %s", got, want)
	}
}

// TestACellClaimsForItsTenants: those that are here, on their way here, or on their way away.
func TestACellClaimsForItsTenants(t *testing.T) {
	t.Parallel()
	m := withTwoCells(t)
	ctx := t.Context()
	ids := map[string]directory.TenantID{}
	for slug, cell := range map[string]directory.CellID{"here": "c1", "there": "c2", "coming": "c2", "going": "c1"} {
		tenant, err := m.CreateTenant(ctx, directory.NewTenant{Slug: slug, Cell: cell})
		if err != nil {
			t.Fatal(err)
		}
		ids[slug] = tenant.ID
	}
	var comes directory.Move
	for slug, target := range map[string]directory.CellID{"coming": "c1", "going": "c2"} {
		move, err := m.CreateMove(ctx, directory.NewMove{Tenant: ids[slug], Target: target})
		if err != nil {
			t.Fatal(err)
		}
		if slug == "coming" {
			comes = move
		}
	}
	b := serve(t, m, nil)
	auths := map[string]string{}
	for _, cell := range []string{"c1", "c2"} {
		auths[cell] = "Authorization: Bearer " + b.issue(t, token.Claims{Kind: token.Cell, Subject: cell})
	}
	try := func(slug, cell string, want bool) {
		t.Helper()
		claim := fmt.Sprintf(`{"kind":"login","name":"%s@%s","tenant":%d}`, slug, cell, ids[slug])
		release := fmt.Sprintf("/v1/claims/login/%s?tenant=%d", url.PathEscape(slug+"@"+cell), ids[slug])
		for _, got := range []answer{b.call(t, "POST", "/v1/claims", claim, auths[cell]), b.call(t, "DELETE", release, "", auths[cell])} {
			if got.status != map[bool]int{true: 204, false: 403}[want] {
				t.Errorf("%s as %s: got %d %s, may it: %v", slug, cell, got.status, got.body, want)
			}
		}
	}
	try("here", "c1", true)
	try("here", "c2", false)
	try("there", "c1", false)
	for _, cell := range []string{"c1", "c2"} {
		try("coming", cell, true)
		try("going", cell, true)
	}
	if _, err := m.AskMove(ctx, comes.ID, directory.Cancel); err != nil {
		t.Fatal(err)
	}
	comes, err := m.LeaseMove(ctx, comes.ID, "m1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for from := comes.Phase; !comes.Phase.Ended(); from = comes.Phase {
		comes.Phase = map[directory.Phase]directory.Phase{directory.Planned: directory.Aborting, directory.Aborting: directory.Aborted}[from]
		if err := m.Advance(ctx, comes, from); err != nil {
			t.Fatal(err)
		}
	}
	try("coming", "c1", false)
	claim := fmt.Sprintf(`{"kind":"login","name":"ann","tenant":%d}`, 999)
	if got := b.call(t, "POST", "/v1/claims", claim, auths["c1"]); got.status != 403 {
		t.Errorf("an unknown tenant: got %d, want 403", got.status)
	}
}

func withTwoCells(t *testing.T) *directorytest.Memory {
	t.Helper()
	m := directorytest.NewMemory()
	for _, id := range []directory.CellID{"c1", "c2"} {
		c := directory.Cell{ID: id, Address: "http://" + string(id) + ".test", Capacity: 100, Incarnation: "i-" + string(id)}
		if _, err := m.AddCell(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return m
}
