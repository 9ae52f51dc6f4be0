package deletion_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	cellapi "github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/deletion"
	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/store/storetest"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A world is a directory that can be cut off, and its cells.
type world struct {
	*directorytest.Memory
	gone   atomic.Bool
	deaf   atomic.Bool  // it hears nothing that cells tell
	denies atomic.Bool  // it takes nothing from cells
	told   atomic.Int64 // how often it heard something
}

var errGone = problem.New(problem.Unavailable, "the directory does not answer")

func (w *world) ListDeletions(ctx context.Context, cell directory.CellID, after directory.TenantID, limit int) ([]directory.Deletion, error) {
	if w.gone.Load() {
		return nil, errGone
	}
	return w.Memory.ListDeletions(ctx, cell, after, limit)
}

func (w *world) TellDeletion(ctx context.Context, cell directory.CellID, incarnation string, t directory.TenantID, e directory.Epoch, purged bool) error {
	if w.gone.Load() || w.deaf.Load() {
		return errGone
	}
	w.told.Add(1)
	if w.denies.Load() {
		return directory.ErrNoDeletion(t, cell)
	}
	return w.Memory.TellDeletion(ctx, cell, incarnation, t, e, purged)
}

// A cell is one cell's database and Redis, with the agent of a process.
type cell struct {
	w      *world
	id     directory.CellID
	owner  *pgx.Conn
	mover  string // URL of the role that moves tenants
	app    *store.Store
	purger *transfer.Purger
	keep   *keep.Keep
	redis  *redis.Client
	agent  *deletion.Agent
	reg    *prometheus.Registry
}

const ddl = `
	CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO cell_app;
	CREATE TABLE app.note (tenant_id bigint NOT NULL, id integer NOT NULL, PRIMARY KEY (tenant_id, id));
	CREATE TABLE app.line (tenant_id bigint NOT NULL, id integer NOT NULL, note integer NOT NULL, PRIMARY KEY (tenant_id, id),
	    FOREIGN KEY (tenant_id, note) REFERENCES app.note);
	SELECT cell.protect('app.note'), cell.protect('app.line')`

// open makes a cell of the world.
func (w *world) open(t *testing.T, id directory.CellID) *cell {
	t.Helper()
	ctx := t.Context()
	owner := storetest.Postgres(t)
	conn, err := pgx.Connect(ctx, owner)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.WithoutCancel(ctx)) })
	name := conn.Config().Database // servers are shared
	app, mover := testkit.SetUser(t, owner, "app_"+name, "app"), testkit.SetUser(t, owner, "mover_"+name, "mover")
	must(t, store.Prepare(ctx, owner, app, cellapi.NewAPI(nil)))
	_, err = conn.Exec(ctx, ddl)
	must(t, err)
	must(t, store.Prepare(ctx, owner, app)) // installs capture
	must(t, store.PrepareMover(ctx, owner, mover))
	c := &cell{w: w, id: id, owner: conn, mover: mover}
	c.app, err = store.Open(ctx, app, store.Options{Cell: id})
	must(t, err)
	t.Cleanup(c.app.Close)
	pool, err := transfer.OpenReplica(ctx, mover, 4)
	must(t, err)
	t.Cleanup(pool.Close)
	c.purger = transfer.NewPurger(pool, 7, 0)
	url := testkit.Redis(t)
	c.keep, err = keep.Open(url, keep.Options{Timeout: 30 * time.Second})
	must(t, err)
	t.Cleanup(func() { _ = c.keep.Close() })
	c.redis = testkit.RedisClient(t, url)
	incarnation, err := c.app.Incarnation(ctx)
	must(t, err)
	_, err = w.AddCell(ctx, directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 100, Incarnation: incarnation})
	must(t, err)
	c.restart(t, c.purger)
	return c
}

// opened is a world with one cell.
func opened(t *testing.T) (*world, *cell) {
	t.Helper()
	w := &world{Memory: directorytest.NewMemory()}
	return w, w.open(t, "c1")
}

// deleted is one with a tenant that is deleted, of which its cell has not heard yet.
func deleted(t *testing.T) (w *world, c *cell, gone directory.TenantID) {
	t.Helper()
	w, c = opened(t)
	gone = c.tenant(t, "gone")
	must(t, w.DeleteTenant(t.Context(), gone))
	return w, c, gone
}

// restart is a new process of the cell, whose purges go by rows.
func (c *cell) restart(t *testing.T, rows deletion.Rows) {
	t.Helper()
	c.reg = prometheus.NewRegistry()
	c.agent = deletion.New(deletion.Options{
		Store: c.app, Directory: c.w, Rows: rows, Keys: c.keep, Events: outbox.NewEraser(c.redis), Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Registry: c.reg,
	})
}

// look is one look of the agent, with the purges that are due.
func (c *cell) look(t *testing.T) {
	t.Helper()
	must(t, c.agent.RunOnce(t.Context()))
}

// tenant creates one on the cell and fills it with something of everything.
func (c *cell) tenant(t *testing.T, slug string) directory.TenantID {
	t.Helper()
	made, err := c.w.CreateTenant(t.Context(), directory.NewTenant{Slug: slug, Cell: c.id})
	must(t, err)
	_, err = fence.Admit(t.Context(), c.app.DB(), made.ID, 1)
	must(t, err)
	must(t, c.fill(t, made.ID, 1))
	return made.ID
}

// fill writes as the tenant, through the fence, and to Redis.
func (c *cell) fill(t *testing.T, tenant directory.TenantID, e directory.Epoch) error {
	t.Helper()
	return c.app.InTenant(t.Context(), tenant, e, func(ctx context.Context, tx *store.Tx) error {
		for _, sql := range []string{
			`INSERT INTO app.note SELECT $1, i FROM generate_series(1, 30) i`,
			`INSERT INTO app.line SELECT $1, i, i FROM generate_series(1, 30) i`,
			`INSERT INTO cell.outbox_counter VALUES ($1, 1)`,
			`INSERT INTO cell.outbox (tenant_id, seq, id, cell, epoch, type, subject, data) VALUES ($1, 1, gen_random_uuid(), 'c1', 1, 'a', 'b', '{}')`,
			`INSERT INTO cell.inbox (tenant_id, consumer, last_seq) VALUES ($1, 'c', 0)`,
			`INSERT INTO cell.dead_letter (tenant_id, consumer, seq, event_id, type, event, error, attempts) VALUES ($1, 'c', 1, gen_random_uuid(), 'a', '{}', '', 1)`,
			`INSERT INTO cell.job (tenant_id, id, kind, payload, max_attempts, due_at, run_at) VALUES ($1, gen_random_uuid(), 'k', '{}', 1, now(), now())`,
			`INSERT INTO cell.schedule (tenant_id, name, kind, payload, every, next_run) VALUES ($1, 's', 'k', '{}', '1 hour', now())`,
			`INSERT INTO api.idempotency (tenant_id, key, request_hash, status, headers, body) VALUES ($1, 'k', sha256('k'), 201, '{}', '')`,
		} {
			if _, err := tx.Exec(ctx, sql, tenant); err != nil {
				return err
			}
		}
		must(t, c.keep.Set(ctx, keep.NewKey(tx, "app", "x"), []byte("1"), 0))
		must(t, c.redis.Set(ctx, cellapi.NewKey(tx, "app", "cached").String(), "1", time.Hour).Err())
		must(t, c.redis.Set(ctx, keep.Rate(tenant), "1", time.Hour).Err())
		return nil
	})
}

// rows is how many rows of the tenant there are, by table; tables without one are left out.
func (c *cell) rows(t *testing.T, tenant directory.TenantID) map[string]int {
	t.Helper()
	tables, err := transfer.Tables(t.Context(), c.owner)
	must(t, err)
	out := map[string]int{}
	for _, table := range tables {
		if n := value[int](t, c, `SELECT count(*)::int FROM `+table.Name+` WHERE tenant_id = $1`, tenant); n > 0 {
			out[table.Label] = n
		}
	}
	return out
}

// keys is what Redis has of the tenant.
func (c *cell) keys(t *testing.T, tenant directory.TenantID) []string {
	t.Helper()
	names, err := c.redis.Keys(t.Context(), "{t:"+tenant.String()+"}:*").Result()
	must(t, err)
	return names
}

func value[T any](t *testing.T, c *cell, sql string, args ...any) (v T) {
	t.Helper()
	must(t, c.owner.QueryRow(t.Context(), sql, args...).Scan(&v))
	return v
}

func (c *cell) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := c.owner.Exec(t.Context(), sql, args...)
	must(t, err)
}

// metric is the value of a gauge or a counter.
func (c *cell) metric(t *testing.T, name string) float64 {
	t.Helper()
	all, err := c.reg.Gather()
	must(t, err)
	for _, f := range all {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func (c *cell) wantFence(t *testing.T, tenant directory.TenantID, state fence.State, epoch directory.Epoch) {
	t.Helper()
	if f, err := fence.Get(t.Context(), c.app.DB(), tenant); err != nil || f.State != state || f.Epoch != epoch {
		t.Errorf("tenant %d: got %+v, %v, want %s at %d", tenant, f, err, state, epoch)
	}
}

// wantWhole checks that nothing of the tenant is gone.
func (c *cell) wantWhole(t *testing.T, tenant directory.TenantID) {
	t.Helper()
	rows := c.rows(t, tenant)
	if len(rows) != 9 || rows["app.note"] != 30 || rows["app.line"] != 30 {
		t.Errorf("tenant %d: got %v, want something in 9 tables", tenant, rows)
	}
	if keys := c.keys(t, tenant); len(keys) < 5 {
		t.Errorf("tenant %d: got keys %v", tenant, keys)
	}
}

// wantPurged checks that nothing is left but the tombstone.
func (c *cell) wantPurged(t *testing.T, tenant directory.TenantID, epoch directory.Epoch) {
	t.Helper()
	c.wantFence(t, tenant, fence.Deleted, epoch)
	if rows := c.rows(t, tenant); len(rows) > 0 {
		t.Errorf("tenant %d: %v are left", tenant, rows)
	}
	if n := value[int](t, c, `SELECT count(*)::int FROM (SELECT FROM cell.dirty WHERE tenant_id = $1 UNION ALL SELECT FROM cell.received WHERE tenant_id = $1) x`, tenant); n > 0 {
		t.Errorf("tenant %d: %d notes of moves are left", tenant, n)
	}
	if keys := c.keys(t, tenant); len(keys) > 1 || len(keys) == 1 && keys[0] != "{t:"+tenant.String()+"}:move:fence" {
		t.Errorf("tenant %d: keys %v are left", tenant, keys)
	}
}

// moverPool is what movers' steps go through.
func (c *cell) moverPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := transfer.Open(t.Context(), c.mover, 2)
	must(t, err)
	t.Cleanup(pool.Close)
	return pool
}
