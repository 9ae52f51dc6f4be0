package e2e

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// An inside is a cell's database and Redis, as nobody sees them from outside.
type inside struct {
	db    *pgx.Conn
	redis *redis.Client
}

func (w *world) inside(t *testing.T, cell directory.CellID) inside {
	t.Helper()
	for _, c := range w.State().Cells {
		if directory.CellID(c.ID) != cell {
			continue
		}
		db, err := pgx.Connect(within(t, patience), c.DatabaseURL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close(context.WithoutCancel(t.Context())) })
		opt, err := redis.ParseURL(c.RedisURL)
		if err != nil {
			t.Fatal(err)
		}
		rdb := redis.NewClient(opt)
		t.Cleanup(func() { rdb.Close() })
		return inside{db, rdb}
	}
	t.Fatalf("no cell %s", cell)
	return inside{}
}

func got[T any](t *testing.T, in inside, sql string, args ...any) (v T) {
	t.Helper()
	if err := in.db.QueryRow(within(t, patience), sql, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// rows is how many rows of the tenant there are in all tenant tables.
func (in inside) rows(t *testing.T, tenant *loadtest.Tenant) (all int) {
	t.Helper()
	tables, err := in.db.Query(within(t, patience), `SELECT oid::regclass::text FROM pg_class WHERE relforcerowsecurity AND relkind IN ('r', 'p')`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(tables, pgx.RowTo[string])
	if err != nil || len(names) < 10 {
		t.Fatalf("tenant tables: got %v, %v", names, err)
	}
	got[string](t, in, `SELECT set_config('cell.tenant', $1::bigint::text, false)`, int64(tenant.ID))
	for _, name := range names {
		all += got[int](t, in, `SELECT count(*)::int FROM `+name+` WHERE tenant_id = $1`, int64(tenant.ID))
	}
	return all
}

func (in inside) keys(t *testing.T, tenant *loadtest.Tenant) []string {
	t.Helper()
	names, err := in.redis.Keys(within(t, patience), "{t:"+tenant.ID.String()+"}:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return n == "{t:"+tenant.ID.String()+"}:move:fence" })
}

func (in inside) fence(t *testing.T, tenant *loadtest.Tenant) string {
	t.Helper()
	return got[string](t, in, `SELECT coalesce((SELECT state FROM cell.fence WHERE tenant_id = $1), 'absent')`, int64(tenant.ID))
}

// next is when the tenant's schedule runs next.
func (in inside) next(t *testing.T, tenant *loadtest.Tenant) time.Time {
	t.Helper()
	got[string](t, in, `SELECT set_config('cell.tenant', $1::bigint::text, false)`, int64(tenant.ID))
	return got[time.Time](t, in, `SELECT next_run FROM cell.schedule WHERE tenant_id = $1`, int64(tenant.ID))
}

func (w *world) remove(t *testing.T, tenant *loadtest.Tenant) {
	t.Helper()
	w.operator(t, http.MethodDelete, "/v1/tenants/"+tenant.ID.String(), nil, nil)
}

func (w *world) waits(t *testing.T, tenant *loadtest.Tenant) (d directory.Deletion, waits bool) {
	t.Helper()
	var list struct{ Items []directory.Deletion }
	w.operator(t, http.MethodGet, "/v1/deletions?limit=1000", nil, &list)
	i := slices.IndexFunc(list.Items, func(d directory.Deletion) bool { return d.Tenant == tenant.ID })
	if i < 0 {
		return d, false
	}
	return list.Items[i], true
}

// TestADeletedTenantIsGone: from its deletion on its schedule does not fire and its data
// stands still; when its grace is ended nothing is left of it; and its neighbour in the
// cell feels nothing. A cell that was killed while it purged, or before it heard, goes on when it is back.
func TestADeletedTenantIsGone(t *testing.T) {
	w := rough.alone(t)
	home := w.cell(1)
	in := w.inside(t, home)
	const every = time.Second
	gone, late, stays := w.tenant(t, home), w.tenant(t, home), w.tenant(t, home)
	for _, tenant := range []*loadtest.Tenant{gone, late, stays} {
		put(t, tenant, "/v1/projects/"+project(t, tenant, "p")+"/tasks", map[string]any{"title": "t", "due_at": time.Now().Add(time.Hour)})
		w.hasten(t, tenant, home, every)
		first := in.next(t, tenant)
		until(t, "a schedule to fire", func() bool { return in.next(t, tenant).After(first) })
	}

	w.remove(t, gone)
	until(t, "the cell to hear of it", func() bool { return in.fence(t, gone) == "deleted" })
	rows, at := in.rows(t, gone), in.next(t, gone)
	if rows == 0 {
		t.Fatal("nothing is kept for the grace")
	}
	beat := in.next(t, stays)
	until(t, "the neighbour's schedule to fire three times", func() bool { return in.next(t, stays).Sub(beat) >= 3*every })
	if n, next := in.rows(t, gone), in.next(t, gone); n != rows || !next.Equal(at) {
		t.Errorf("in its grace: got %d rows and the schedule at %v, want %d and %v", n, next, rows, at)
	}
	if a := ask(t, gone, loadtest.Request{Method: http.MethodGet, Path: "/v1/projects"}); a.Status != http.StatusNotFound {
		t.Errorf("a request: got %s, want 404", a)
	}
	if d, waits := w.waits(t, gone); !waits || d.Due || !slices.Equal(d.Cells, []directory.CellID{home}) {
		t.Errorf("what operators see: got %+v, %v", d, waits)
	}

	// The cell is killed while it purges, and is dead while another tenant is deleted.
	got[string](t, in, `SELECT set_config('cell.tenant', $1::bigint::text, false)`, int64(gone.ID))
	got[int](t, in, `WITH many AS (INSERT INTO cell.job (tenant_id, id, kind, payload, state, max_attempts, due_at, run_at)
		SELECT $1, gen_random_uuid(), 'old', '{}', 'done', 1, now(), now() FROM generate_series(1, 50000) RETURNING 1) SELECT count(*)::int FROM many`, int64(gone.ID))
	w.operator(t, http.MethodPost, "/v1/tenants/"+gone.ID.String()+"/purge", nil, nil)
	until(t, "the purge to begin", func() bool {
		return got[bool](t, in, `SELECT begun_at IS NOT NULL FROM cell.deletion WHERE tenant = $1`, int64(gone.ID))
	})
	for _, part := range []string{"", "-worker"} {
		if err := w.Kill(string(home) + part); err != nil {
			t.Fatal(err)
		}
	}
	w.remove(t, late)
	w.operator(t, http.MethodPost, "/v1/tenants/"+late.ID.String()+"/purge", nil, nil)
	if state := in.fence(t, late); state != "active" {
		t.Errorf("the fence of a cell that is dead: got %s", state)
	}
	for _, part := range []string{"", "-worker"} {
		if err := w.StartProcess(within(t, patience), string(home)+part); err != nil {
			t.Fatal(err)
		}
	}
	for _, tenant := range []*loadtest.Tenant{gone, late} {
		until(t, "the purge", func() bool { _, waits := w.waits(t, tenant); return !waits })
		if n, keys, state := in.rows(t, tenant), in.keys(t, tenant), in.fence(t, tenant); n != 0 || len(keys) > 0 || state != "deleted" {
			t.Errorf("tenant %d after its purge: got %d rows, keys %v, fence %s", tenant.ID, n, keys, state)
		}
	}
	if n := in.rows(t, stays); n == 0 {
		t.Error("the neighbour's rows are gone")
	}
	project(t, stays, "goes on")
	beat = in.next(t, stays)
	until(t, "the neighbour's schedule to fire", func() bool { return in.next(t, stays).After(beat) })
}
