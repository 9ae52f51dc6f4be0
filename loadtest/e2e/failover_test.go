package e2e

import (
	"net/http"
	"os/exec"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/loadtest"
)

// one reads one value from a cell's database, as its superuser.
func one[T any](t *testing.T, w *world, cell int, sql string, args ...any) (v T) {
	t.Helper()
	ctx := within(t, patience)
	db, err := pg.Open(ctx, w.State().Cells[cell-1].DatabaseURL, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(ctx, sql, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// witness is the greatest number that the directory has from a cell.
func (w *world) witness(t *testing.T, cell directory.CellID) (n int64) {
	t.Helper()
	var c directory.Cell
	var told struct{ Number int64 }
	w.operator(t, http.MethodGet, "/v1/cells/"+string(cell), nil, &c)
	ask := map[string]any{"incarnation": c.Incarnation, "number": 0}
	w.operator(t, http.MethodPost, "/v1/cells/"+string(cell)+"/witness", ask, &told)
	return told.Number
}

// TestRestoredCellServesOnlyWhoLivesThere: a cell's database is set back to a copy
// from before one of its tenants left. Nobody tells the cell; it finds out, serves
// those who stayed, and not the one that the other cell has.
func TestRestoredCellServesOnlyWhoLivesThere(t *testing.T) {
	w := rough.alone(t)
	from, to := w.cell(1), w.cell(2)
	stays, left := w.tenant(t, from), w.tenant(t, from)
	for _, tenant := range []*loadtest.Tenant{stays, left} {
		project(t, tenant, "before")
	}
	server, data := string(from)+"-postgres", one[string](t, w, 1, `SHOW data_directory`)
	run := func(program string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(within(t, patience), program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", program, err, out)
		}
	}
	stopped := func(then func()) {
		t.Helper()
		if err := w.Kill(server); err != nil {
			t.Fatal(err)
		}
		then()
		if err := w.StartProcess(within(t, patience), server); err != nil {
			t.Fatal(err)
		}
	}
	serves := func(tenant *loadtest.Tenant) {
		t.Helper()
		until(t, "the tenant to be served", func() bool { return ask(t, tenant, loadtest.Request{Path: "/v1/projects"}).Status == http.StatusOK })
	}
	const generation = `SELECT generation FROM cell.serving`
	reconciled := one[int](t, w, 1, generation)
	stopped(func() { run("cp", "-a", data, data+".backup") })
	serves(stays) // a plain restart: nothing is reconciled

	m := w.move(t, directory.NewMove{Tenant: left.ID, Target: to})
	wantPhase(t, m, directory.Watching)
	project(t, left, "after")
	before := w.witness(t, from)
	until(t, "the cell to tell how far it is", func() bool { return w.witness(t, from) > before })

	stopped(func() { run("rm", "-rf", data); run("mv", data+".backup", data) })
	serves(stays)
	serves(left)
	project(t, stays, "after")
	project(t, left, "again")
	if got := names(t, left); got["before"] != 1 || got["after"] != 1 || got["again"] != 1 {
		t.Errorf("the tenant that left: got %v, want each project once", got)
	}
	if got := one[string](t, w, 1, `SELECT state || ' to ' || moved_to FROM cell.fence WHERE tenant_id = $1`, int64(left.ID)); got != "moved to "+string(to) {
		t.Errorf("the fence of the tenant that left: got %q", got)
	}
	if n := one[int](t, w, 1, generation) - reconciled; n != 1 {
		t.Errorf("got %d reconciliations, want 1", n)
	}
	// The way back is a whole copy now; it is still open.
	back := w.move(t, directory.NewMove{Tenant: left.ID, Target: from, Undoes: m.ID})
	wantPhase(t, back, directory.Watching)
	if got := names(t, left); got["before"] != 1 || got["after"] != 1 || got["again"] != 1 {
		t.Errorf("taken back: got %v, want each project once", got)
	}
}
