package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/loadtest"
)

// TestTenantCannotReachAnother: whatever tenant A does with tenant B's ids, it
// learns nothing of B and changes nothing of B's, be they in one cell or in two.
func TestTenantCannotReachAnother(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	for n, where := range map[int]string{1: "in the same cell", 2: "in another cell"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			newTrespass(t, w, w.cell(n)).all(t)
		})
	}
}

// secret is in every text of B's: no answer to A may hold it.
const secret = "b-only-7f3a"

// bKey is an Idempotency-Key of B's.
const bKey = "key-" + secret

// A trespass is A, at the door, and B with all that A has found out about B.
type trespass struct {
	a, b          *loadtest.Tenant
	project, task string
	cursor        string
}

func newTrespass(t *testing.T, w *world, cellOfA directory.CellID) *trespass {
	t.Helper()
	x := &trespass{a: w.tenant(t, cellOfA), b: w.tenant(t, w.cell(1))}
	project(t, x.a, "mine")
	a := ask(t, x.b, loadtest.Request{Path: "/v1/projects", Key: bKey, Body: map[string]string{"name": secret}})
	var made struct{ ID string }
	if err := a.Decode(&made); err != nil {
		t.Fatal(err)
	}
	x.project = made.ID
	x.task = put(t, x.b, "/v1/projects/"+x.project+"/tasks", map[string]string{"title": secret})
	project(t, x.b, secret+" two")
	var page struct {
		Next string `json:"next_cursor"`
	}
	if err := ask(t, x.b, loadtest.Request{Path: "/v1/projects?limit=1"}).Decode(&page); err != nil || page.Next == "" {
		t.Fatalf("no cursor: %v", err)
	}
	x.cursor = page.Next
	return x
}

func (x *trespass) all(t *testing.T) {
	before := events(t, x.b)
	t.Run("path", x.path)
	t.Run("query", x.query)
	t.Run("body", x.body)
	t.Run("cursor", x.foreignCursor)
	t.Run("idempotency key", x.foreignKey)
	t.Run("other sources", x.sources)
	if after := events(t, x.b); after != before {
		t.Errorf("B has %d new events", after-before)
	}
	var task struct{ Title, State string }
	if err := ask(t, x.b, loadtest.Request{Path: "/v1/tasks/" + x.task}).Decode(&task); err != nil || task.Title != secret || task.State != "todo" {
		t.Errorf("B's task is now %+v: %v", task, err)
	}
}

// try makes a request as A; its answer must hold nothing of B.
func (x *trespass) try(t *testing.T, r loadtest.Request) loadtest.Answer {
	t.Helper()
	a := ask(t, x.a, r)
	if mentions(a, secret) {
		t.Errorf("%s %s shows what is B's: %s", r.Method, r.Path, a)
	}
	return a
}

func (x *trespass) path(t *testing.T) {
	p, k := "/v1/projects/"+x.project, "/v1/tasks/"+x.task
	match := http.Header{"If-Match": {"*"}}
	for _, r := range []loadtest.Request{
		{Method: "GET", Path: p},
		{Method: "GET", Path: p + "/summary"},
		{Method: "GET", Path: p + "/tasks"},
		{Method: "PATCH", Path: p, Header: match, Body: map[string]string{"name": "taken"}},
		{Method: "DELETE", Path: p},
		{Method: "DELETE", Path: p, Header: match},
		{Method: "POST", Path: p + "/tasks", Body: map[string]string{"title": "planted"}},
		{Method: "GET", Path: k},
		{Method: "PATCH", Path: k, Header: match, Body: map[string]string{"title": "taken"}},
		{Method: "DELETE", Path: k},
		{Method: "POST", Path: k + "/transition", Body: map[string]string{"to": "doing"}},
		{Method: "POST", Path: k + "/transition", Key: "fresh-key", Header: match, Body: map[string]string{"to": "doing"}},
	} {
		wantProblem(t, x.try(t, r), problem.NotFound)
	}
}

func (x *trespass) query(t *testing.T) {
	for _, q := range []string{"tenant=%s", "tenant_id=%s", "tenant=%[2]s", "project=%[3]s"} {
		r := loadtest.Request{Path: "/v1/projects?" + fmt.Sprintf(q+"&_=%[1]s%[2]s%[3]s", x.b.ID, x.b.Slug, x.project)}
		if a := x.try(t, r); a.Status >= 500 {
			t.Errorf("%s: %s", r.Path, a)
		}
	}
}

func (x *trespass) body(t *testing.T) {
	before := events(t, x.a)
	for _, field := range []string{"tenant", "tenant_id", "project"} {
		r := loadtest.Request{Path: "/v1/projects", Body: map[string]any{"name": "x", field: x.b.ID}}
		wantProblem(t, x.try(t, r), problem.Invalid)
	}
	if after := events(t, x.a); after != before {
		t.Error("a refused body had an effect")
	}
}

func (x *trespass) foreignCursor(t *testing.T) {
	a := x.try(t, loadtest.Request{Path: "/v1/projects?limit=10&cursor=" + url.QueryEscape(x.cursor)})
	wantProblem(t, a, problem.NotFound, problem.Invalid)
}

// foreignKey: B's key is nothing special to A; A's request is A's own.
func (x *trespass) foreignKey(t *testing.T) {
	a := x.try(t, loadtest.Request{Path: "/v1/projects", Key: bKey, Body: map[string]string{"name": "own"}})
	wantStatus(t, a, http.StatusCreated)
	if a.Header.Get("Idempotency-Replayed") != "" {
		t.Error("A got a replay of B's request")
	}
	b := ask(t, x.b, loadtest.Request{Path: "/v1/projects", Key: bKey, Body: map[string]string{"name": secret}})
	if b.Header.Get("Idempotency-Replayed") != "true" || !mentions(b, x.project) {
		t.Errorf("B's key no longer replays B's request: %s", b)
	}
}

// sources: A's token and any other word for B do not go together.
func (x *trespass) sources(t *testing.T) {
	p := "/v1/projects/" + x.project
	for _, r := range []loadtest.Request{
		{Path: "/t/" + x.b.Slug + p},
		{Path: p, Host: x.b.Slug + ".cellway.localhost"},
		{Path: p, Header: http.Header{"X-Tenant": {x.b.Slug}}},
		{Path: p, Header: http.Header{"Cookie": {"tenant=" + x.b.Slug}}},
	} {
		wantProblem(t, x.try(t, r), problem.TenantConflict)
	}
}
