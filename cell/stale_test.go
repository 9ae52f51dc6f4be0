package cell_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/projects"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

func TestAStaleEpochChangesNothing(t *testing.T) {
	t.Parallel()
	h := start(t)
	p := h.createProject(acme, "Moon")
	before := h.position(acme)

	stale := func(epoch directory.Epoch, state, known string) {
		t.Helper()
		for _, q := range []request{
			{method: "POST", path: "/v1/projects", body: `{"name":"Mars"}`},
			{method: "POST", path: "/v1/projects", body: `{"name":"Mars"}`, header: map[string]string{"Idempotency-Key": "k"}},
			{method: "PATCH", path: "/v1/projects/" + p.ID, body: `{"name":"Mars"}`, header: map[string]string{"If-Match": "*"}},
			{method: "DELETE", path: "/v1/projects/" + p.ID},
			{method: "GET", path: "/v1/projects/" + p.ID + "/summary"},
		} {
			q.epoch = epoch
			got := decode[document](t, h.want(421, q))
			if got.Code != "stale_epoch" || got.Source != "cell" || got.Extra["state"] != state || got.Extra["epoch"] != known {
				t.Errorf("%s %s: got %+v", q.method, q.path, got)
			}
		}
	}
	stale(2, "active", "1") // newer than what the cell knows is not its to serve either
	h.want(200, request{method: "GET", path: "/v1/projects/" + p.ID + "/summary"})

	if _, err := fence.Freeze(t.Context(), h.store.DB(), acme, 1, "move-1", time.Second); err != nil {
		t.Fatal(err)
	}
	stale(1, "frozen", "2")
	stale(2, "frozen", "2")
	if _, err := fence.Activate(t.Context(), h.store.DB(), acme, 2, 3, "move-1", time.Second); err != nil {
		t.Fatal(err)
	}
	stale(1, "active", "3")

	got := decode[projects.Project](t, h.want(200, request{method: "GET", path: "/v1/projects/" + p.ID, epoch: 3}))
	if got != p {
		t.Errorf("project: got %+v, want %+v", got, p)
	}
	events := request{method: "GET", path: "/v1/events/position", epoch: 3}
	if got := decode[struct{ Last int64 }](t, h.want(200, events)).Last; got != before {
		t.Errorf("events: got %d, want %d", got, before)
	}
	h.want(201, request{method: "POST", path: "/v1/projects", body: `{"name":"Mars"}`, epoch: 3, header: map[string]string{"Idempotency-Key": "k"}})
}

func TestATenantThatNeverWasHereComesInAtTheFirstEpochOnly(t *testing.T) {
	t.Parallel()
	h := start(t)
	list := request{tenant: 7, epoch: 2, method: "GET", path: "/v1/projects"}
	if got := decode[document](t, h.want(421, list)); got.Extra["state"] != "absent" {
		t.Errorf("got %+v", got)
	}
	if f, err := fence.Get(t.Context(), h.store.DB(), 7); err != nil || f.State != fence.Absent {
		t.Errorf("fence: got %+v, %v", f, err)
	}
	list.epoch = 1
	h.want(200, list)
	if f, err := fence.Get(t.Context(), h.store.DB(), 7); err != nil || f.State != fence.Active {
		t.Errorf("fence: got %+v, %v", f, err)
	}
}

// TestARequestAheadOfItsFenceWaitsForIt: when a move is aborted, routers hear of the
// new epoch a little before the cell that goes on serving the tenant.
func TestARequestAheadOfItsFenceWaitsForIt(t *testing.T) {
	t.Parallel()
	h := start(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.db.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	p := h.createProject(acme, "Moon")
	if _, err := fence.Freeze(ctx, h.store.DB(), acme, 1, "move-1", time.Second); err != nil {
		t.Fatal(err)
	}
	early := make(chan response, 1)
	go func() { early <- h.send(request{method: "GET", path: "/v1/projects/" + p.ID, epoch: 3}) }()
	h.want(421, request{method: "GET", path: "/v1/projects/" + p.ID, epoch: 1})
	if _, err := fence.Activate(ctx, h.store.DB(), acme, 2, 3, "move-1", time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.DB().Exec(ctx, `SELECT pg_notify('cell_fence', $1)`, acme.String()); err != nil { // as a move's steps do
		t.Fatal(err)
	}
	if got := <-early; got.status != 200 {
		t.Errorf("got %d %s, want it served once the fence has caught up", got.status, got.body)
	}
}

// TestWhatIsHalfDoneIsNotSentAgain: where a tenant is frozen between two transactions of a request, the
// first of which has committed, the answer is not the one that says that nothing was done.
func TestWhatIsHalfDoneIsNotSentAgain(t *testing.T) {
	t.Parallel()
	var h *harness
	twice := func(w http.ResponseWriter, r *http.Request) {
		nothing := func(context.Context, *store.Tx) error { return nil }
		if err := h.db.InTenant(r.Context(), nothing); err != nil {
			cell.Problem(w, r, err)
			return
		}
		if _, err := fence.Freeze(r.Context(), h.store.DB(), acme, 1, "move-1", time.Second); err != nil {
			t.Error(err)
		}
		cell.Problem(w, r, h.db.InTenant(r.Context(), nothing))
	}
	h = start(t, serving(twice))
	got := decode[document](t, h.want(503, request{method: "POST", path: "/v1/projects", body: `{"name":"x"}`}))
	if got.Code != "unavailable" {
		t.Errorf("got %+v", got)
	}
	h.want(421, request{method: "POST", path: "/v1/projects", body: `{"name":"x"}`}) // nothing of this one was done
}
