package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/loadtest"
)

// patience bounds every wait of a story.
const patience = time.Minute

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// tenant makes a tenant on the cell, as an operator does, and waits until both
// routers route it.
func (w *world) tenant(t *testing.T, cell directory.CellID, hosts ...string) *loadtest.Tenant {
	t.Helper()
	return w.worker(t, cell, &loadtest.Recorder{}, loadtest.Plan{Seed: 1}, hosts...)
}

// worker is tenant with a plan of work.
func (w *world) worker(t *testing.T, cell directory.CellID, rec *loadtest.Recorder, plan loadtest.Plan, hosts ...string) *loadtest.Tenant {
	t.Helper()
	ctx := within(t, patience)
	var made directory.Tenant
	want := directory.NewTenant{Slug: slug("story"), Name: t.Name(), Cell: cell, Hosts: hosts}
	if err := w.console.Call(ctx, http.MethodPost, "/v1/tenants", want, &made); err != nil {
		t.Fatalf("create tenant: %v", err)
	}
	tenant := loadtest.Adopt(w.ep, rec, made, w.token(t, made.ID), plan)
	if err := tenant.AwaitRoute(ctx); err != nil {
		t.Fatal(err)
	}
	return tenant
}

func (w *world) token(t *testing.T, id directory.TenantID) string {
	t.Helper()
	var out struct{ Token string }
	body := map[string]any{"subject": "story", "ttl_seconds": 3600}
	if err := w.console.Call(within(t, patience), http.MethodPost, tenantPath(id)+"/tokens", body, &out); err != nil {
		t.Fatalf("issue token: %v", err)
	}
	return out.Token
}

func tenantPath(id directory.TenantID) string { return "/v1/tenants/" + id.String() }

// operator makes a call that must succeed.
func (w *world) operator(t *testing.T, method, path string, body, into any) {
	t.Helper()
	if err := w.console.Call(within(t, patience), method, path, body, into); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

// ask makes one request that must be answered, however.
func ask(t *testing.T, tenant *loadtest.Tenant, r loadtest.Request) loadtest.Answer {
	t.Helper()
	a, err := tenant.Do(within(t, patience), r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// put makes a row and returns its id.
func put(t *testing.T, tenant *loadtest.Tenant, path string, body any) string {
	t.Helper()
	var made struct{ ID string }
	a := ask(t, tenant, loadtest.Request{Method: http.MethodPost, Path: path, Body: body})
	if err := a.Decode(&made); err != nil || a.Status != http.StatusCreated || made.ID == "" {
		t.Fatalf("POST %s: %v: %s", path, err, a)
	}
	return made.ID
}

func project(t *testing.T, tenant *loadtest.Tenant, name string) string {
	t.Helper()
	return put(t, tenant, "/v1/projects", map[string]string{"name": name})
}

// wantProblem holds that an answer is a problem document of one of the kinds,
// with the status that goes with it.
func wantProblem(t *testing.T, a loadtest.Answer, kinds ...problem.Kind) {
	t.Helper()
	got := problem.KindOf(a.Problem())
	for _, k := range kinds {
		if a.Problem() != nil && got == k && a.Status == k.Status() {
			if ct := a.Header.Get("Content-Type"); ct != problem.ContentType {
				t.Errorf("content type: got %q, want %q", ct, problem.ContentType)
			}
			return
		}
	}
	t.Errorf("got %s, want a problem of kind %v", a, kinds)
}

func wantStatus(t *testing.T, a loadtest.Answer, status int) {
	t.Helper()
	if a.Status != status {
		t.Errorf("got %s, want %d", a, status)
	}
}

// events is how many events the tenant has written: what a request that did
// nothing leaves as it is.
func events(t *testing.T, tenant *loadtest.Tenant) int64 {
	t.Helper()
	last, err := tenant.LastEvent(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// names is every project of the tenant, by name.
func names(t *testing.T, tenant *loadtest.Tenant) map[string]int {
	t.Helper()
	var page struct{ Items []struct{ Name string } }
	if err := ask(t, tenant, loadtest.Request{Path: "/v1/projects?limit=200"}).Decode(&page); err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, p := range page.Items {
		out[p.Name]++
	}
	return out
}

// until waits, within the story's patience.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	err := loadtest.Until(within(t, patience), what, 10*time.Millisecond, func(context.Context) (bool, error) { return done(), nil })
	if err != nil {
		t.Fatal(err)
	}
}

// A crowd is tenants at work.
type crowd struct {
	tenants []*loadtest.Tenant
	rec     *loadtest.Recorder
	stop    chan struct{}
	ended   chan error
}

// work puts n tenants on each of the cells to work.
func (w *world) work(t *testing.T, n int, cells ...directory.CellID) *crowd {
	t.Helper()
	c := &crowd{rec: &loadtest.Recorder{}, stop: make(chan struct{}), ended: make(chan error, n*len(cells))}
	ctx := within(t, 5*patience)
	for _, cell := range cells {
		for range n {
			plan := loadtest.Plan{Seed: 1, Lanes: 2, Think: 10 * time.Millisecond}
			tenant := w.worker(t, cell, c.rec, plan)
			c.tenants = append(c.tenants, tenant)
			go func() { c.ended <- tenant.Work(ctx, c.stop) }()
		}
	}
	return c
}

// rest ends the work in good order and holds that every acknowledged write is
// there once and every event was consumed once and in order.
func (c *crowd) rest(t *testing.T) {
	t.Helper()
	close(c.stop)
	for range c.tenants {
		if err := <-c.ended; err != nil {
			t.Error(err)
		}
	}
	ctx := within(t, patience)
	for _, tenant := range c.tenants {
		if err := tenant.AwaitConsumed(ctx); err != nil {
			t.Error(err)
		}
		rows, err := tenant.Check(ctx)
		if err != nil || !rows.OK() || rows.Acknowledged == 0 {
			t.Errorf("rows of %s on %s: %+v, %v", tenant.Slug, tenant.Cell(), rows, err)
		}
		events, err := tenant.CheckEvents(ctx)
		if err != nil || !events.OK() {
			t.Errorf("events of %s on %s: %+v, %v", tenant.Slug, tenant.Cell(), events, err)
		}
	}
}

// more waits until n more requests of the cell's tenants were answered.
func (c *crowd) more(t *testing.T, cell directory.CellID, n int) {
	t.Helper()
	goal := c.rec.Answered(cell) + n
	until(t, fmt.Sprintf("%d more answers of %s", n, cell), func() bool { return c.rec.Answered(cell) >= goal })
}

// wantNoFaults holds that no request of the cells' tenants went wrong.
func (c *crowd) wantNoFaults(t *testing.T, cells ...directory.CellID) {
	t.Helper()
	for _, cell := range cells {
		if faults := c.rec.Faults(cell); len(faults) > 0 {
			t.Errorf("%d requests of %s went wrong, the first with %s", len(faults), cell, faults[0].Fault)
		}
	}
}

// mentions reports whether an answer holds the text, in its head or its body.
func mentions(a loadtest.Answer, text string) bool {
	return strings.Contains(string(a.Body), text) || strings.Contains(fmt.Sprint(a.Header), text)
}
