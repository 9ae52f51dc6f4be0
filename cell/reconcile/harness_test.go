package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/reconcile"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/local"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const patience = 90 * time.Second

// until polls until ok holds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not in time", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A server is a Postgres server that a test may kill, copy and promote.
type server struct {
	local.Postgres
	proc *local.Process
}

// newServer gives a place for a server's data; it is not started.
func newServer(t *testing.T) *server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs servers of its own")
	}
	bin, err := local.FindPostgres("")
	must(t, err)
	user, err := local.Unprivileged()
	must(t, err)
	dir, err := os.MkdirTemp("", "cellway-reconcile-") // not t.TempDir, where the server's user may not go
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, errors.Join(os.Chmod(dir, 0o711), user.Own(dir))) //nolint:gosec // see above
	port, err := local.FreePort()
	must(t, err)
	s := &server{Postgres: local.Postgres{
		Name: "postgres", Bin: bin, Data: filepath.Join(dir, "data"), Port: port, Password: "testkit", User: user, OnOrphan: syscall.SIGQUIT,
		Log: filepath.Join(dir, "log"),
		Settings: map[string]string{
			"fsync": "off", "max_connections": "60", "shared_buffers": "32MB", "jit": "off", "wal_level": "replica", "max_wal_senders": "4", "autovacuum": "off",
		},
	}}
	t.Cleanup(func() {
		if s.proc != nil {
			_ = s.proc.Stop(context.Background(), syscall.SIGQUIT, 10*time.Second) // or it was killed by the test
		}
	})
	return s
}

// start starts the server. After a kill its old processes may still be ending.
func (s *server) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		proc, err := local.StartReady(ctx, s.Command(), s.Answers)
		if err == nil {
			s.proc = proc
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// kill is the death of the machine: no process of the server says goodbye.
func (s *server) kill() { s.proc.Kill() }

// run runs one of Postgres's programs to its end.
func (s *server) run(t *testing.T, program string, args ...string) {
	t.Helper()
	p, err := local.Start(local.Command{
		Name: program, Path: filepath.Join(s.Bin, program), Args: args, Env: []string{"PGPASSWORD=" + s.Password, "LC_ALL=C"}, Dir: "/", Log: s.Log, User: s.User,
	})
	must(t, err)
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatalf("%s does not end", program)
	}
	if data, err := os.ReadFile(s.Log); err == nil && bytes.Contains(data, []byte(program+": error")) {
		t.Fatalf("%s: %s", program, data)
	}
}

// copy is a base backup of a running server, to be started as a standby or, as a
// backup would, as what it is.
func (s *server) copy(t *testing.T, standby bool) *server {
	t.Helper()
	to := newServer(t)
	args := []string{"-D", to.Data, "-d", s.URL("postgres"), "-X", "stream", "-c", "fast", "--no-sync"}
	if standby {
		args = append(args, "-R")
	}
	to.run(t, "pg_basebackup", args...)
	return to
}

// A world is a directory and the cells that it knows; it can be cut off.
type world struct {
	*directorytest.Memory
	gone atomic.Bool
	made atomic.Int64 // tenants
}

var errGone = problem.New(problem.Unavailable, "the directory does not answer")

func (w *world) Witness(ctx context.Context, id directory.CellID, incarnation string, n int64, t directory.TenantID) (directory.Witnessed, error) {
	if w.gone.Load() {
		return directory.Witnessed{}, errGone
	}
	return w.Memory.Witness(ctx, id, incarnation, n, t)
}

func (w *world) AbortMoves(ctx context.Context, id directory.CellID, incarnation, why string) (directory.Recovery, error) {
	if w.gone.Load() {
		return directory.Recovery{}, errGone
	}
	return w.Memory.AbortMoves(ctx, id, incarnation, why)
}

// A cell is a cell's process: connected to a server, with or without its agent.
type cell struct {
	*transfer.Steps
	w             *world
	owner         string
	app           *store.Store
	source        *transfer.Source
	target        *transfer.Target
	purger        *transfer.Purger
	agent         *reconcile.Agent
	pool, replica interface{ Close() }
	stop          func() // ends the agent
}

const ddl = `
	CREATE SCHEMA IF NOT EXISTS app; GRANT USAGE ON SCHEMA app TO cell_app;
	CREATE TABLE IF NOT EXISTS app.note (tenant_id bigint NOT NULL, id integer NOT NULL, PRIMARY KEY (tenant_id, id));
	SELECT cell.protect('app.note')`

// as is the URL of a login role that has the database's name: servers are shared.
func as(t *testing.T, kind, owner string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(owner)
	must(t, err)
	return testkit.SetUser(t, owner, kind+"_"+cfg.Database, kind)
}

// prepare makes a cell's database and registers the cell.
func (w *world) prepare(t *testing.T, id directory.CellID, owner string) {
	t.Helper()
	ctx := t.Context()
	must(t, store.Prepare(ctx, owner, as(t, "app", owner)))
	exec(t, owner, ddl)
	must(t, store.PrepareMover(ctx, owner, as(t, "mover", owner)))
	incarnation := query[string](t, owner, `SELECT id::text FROM cell.incarnation`)
	_, err := w.AddCell(ctx, directory.Cell{ID: id, Address: "http://127.0.0.1:1", Capacity: 100, Incarnation: incarnation})
	must(t, err)
}

// open connects a cell's process; its agent does not work yet.
func (w *world) open(t *testing.T, id directory.CellID, owner string) *cell {
	t.Helper()
	ctx := t.Context()
	s, err := store.Open(ctx, as(t, "app", owner), store.Options{Cell: id, Pool: 8})
	must(t, err)
	pool, err := transfer.Open(ctx, as(t, "mover", owner), 4)
	must(t, err)
	replica, err := transfer.OpenReplica(ctx, as(t, "mover", owner), 4)
	must(t, err)
	c := &cell{
		w: w, owner: owner, app: s, Steps: transfer.NewSteps(pool, id), pool: pool, replica: replica, stop: func() {},
		source: transfer.NewSource(pool, nil), target: transfer.NewTarget(replica, nil), purger: transfer.NewPurger(replica, 100, 0),
		agent: reconcile.New(reconcile.Options{
			Store: s, Directory: w, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Registry: prometheus.NewRegistry(),
		}),
	}
	t.Cleanup(func() { c.close() })
	return c
}

// watch starts the agent.
func (c *cell) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.agent.Run(ctx) // it returns nil
	}()
	c.stop = func() { cancel(); <-done; c.stop = func() {} }
}

// serves waits until the agent lets the database serve.
func (c *cell) serves(t *testing.T) {
	t.Helper()
	until(t, "the database serves", func() bool { return c.agent.Ready(t.Context()) == nil })
}

func (c *cell) close() {
	c.stop()
	c.app.Close()
	c.pool.Close()
	c.replica.Close()
}

// write is a request of a tenant; a note is written once.
func (c *cell) write(ctx context.Context, tenant directory.TenantID, epoch directory.Epoch, note int) error {
	return c.app.InTenant(ctx, tenant, epoch, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO app.note (tenant_id, id) VALUES ($1, $2)`, tenant, note)
		return err
	})
}

func (c *cell) use(t *testing.T, tenant directory.TenantID, epoch directory.Epoch, note int) {
	t.Helper()
	if epoch == 1 {
		_, err := fence.Admit(t.Context(), c.app.DB(), tenant, 1)
		must(t, err)
	}
	must(t, c.write(t.Context(), tenant, epoch, note))
}

// notes is what is stored of a tenant.
func (c *cell) notes(t *testing.T, tenant directory.TenantID) int {
	t.Helper()
	return query[int](t, c.owner, `SELECT count(*)::int FROM app.note WHERE tenant_id = $1`, tenant)
}

func (c *cell) wantFence(t *testing.T, tenant directory.TenantID, state fence.State, epoch directory.Epoch) {
	t.Helper()
	f, err := fence.Get(t.Context(), c.app.DB(), tenant)
	if err != nil || f.State != state || f.Epoch != epoch {
		t.Errorf("tenant %d: got %+v, %v, want %s at %d", tenant, f, err, state, epoch)
	}
}

// wantRefused checks that nobody is served, whoever asks.
func (c *cell) wantRefused(t *testing.T, tenants ...directory.TenantID) {
	t.Helper()
	ctx := t.Context()
	m := transfer.Move{ID: "mv_zombie", Base: 1, Source: "c1", Target: "c2"}
	for _, m.Tenant = range tenants {
		for what, err := range map[string]error{
			"enter": c.write(ctx, m.Tenant, 1, 1000), "reserve": c.Reserve(ctx, m), "arm": c.Arm(ctx, m, time.Second),
			"freeze": c.Freeze(ctx, m, time.Second), "activate": c.Activate(ctx, m), "retire": c.Retire(ctx, m),
			"release": c.Release(ctx, m), "discard": c.Discard(ctx, m), "disarm": c.Disarm(ctx, m, time.Second),
		} {
			if !fence.IsSuspect(err) {
				t.Errorf("tenant %d, %s: got %v, want suspect", m.Tenant, what, err)
			}
		}
		if _, err := c.source.Stream(ctx, &bytes.Buffer{}, m.ID, m.Tenant, ""); !fence.IsSuspect(err) {
			t.Errorf("tenant %d, stream: got %v, want suspect", m.Tenant, err)
		}
		if _, err := fence.Admit(ctx, c.app.DB(), m.Tenant, 1); !fence.IsSuspect(err) {
			t.Errorf("tenant %d, admit: got %v, want suspect", m.Tenant, err)
		}
	}
}

// tenant creates a tenant on a cell.
func (w *world) tenant(t *testing.T, on directory.CellID) directory.TenantID {
	t.Helper()
	made, err := w.CreateTenant(t.Context(), directory.NewTenant{Slug: fmt.Sprintf("tenant-%d", w.made.Add(1)), Cell: on})
	must(t, err)
	return made.ID
}

// way is what a mover does, phase by phase.
var way = []directory.Phase{
	directory.Reserved, directory.Armed, directory.Copied, directory.CaughtUp, directory.Frozen, directory.Decided, directory.Activated, directory.Watching,
}

// move drives a move as a mover does, up to a phase.
func (w *world) move(t *testing.T, from, to *cell, n directory.NewMove, upto directory.Phase) directory.Move {
	t.Helper()
	ctx := t.Context()
	n.Target = to.app.Cell()
	m, err := w.CreateMove(ctx, n)
	must(t, err)
	m, err = w.LeaseMove(ctx, m.ID, "mover", time.Minute)
	must(t, err)
	step := transfer.Move{ID: m.ID, Tenant: m.Tenant, Base: m.Base, Source: m.Source, Target: m.Target, Undoes: m.Undoes}
	for _, p := range way {
		switch p {
		case directory.Reserved:
			must(t, to.Reserve(ctx, step))
		case directory.Armed:
			must(t, from.Arm(ctx, step, time.Second))
		case directory.Copied, directory.CaughtUp:
			must(t, round(ctx, from, to, step, false))
		case directory.Frozen:
			must(t, from.Freeze(ctx, step, time.Second))
			must(t, round(ctx, from, to, step, true))
		case directory.Activated:
			must(t, to.Activate(ctx, step))
		case directory.Watching:
			must(t, from.Retire(ctx, step))
		}
		before := m.Phase
		m.Phase = p
		must(t, w.Advance(ctx, m, before))
		if p == upto {
			break
		}
	}
	m, err = w.Move(ctx, m.ID)
	must(t, err)
	return m
}

func round(ctx context.Context, from, to *cell, m transfer.Move, final bool) error {
	step := transfer.Step{Move: m.ID, Tenant: m.Tenant, Epoch: m.Base + 1}
	have, err := to.target.Received(ctx, step)
	if err != nil {
		return err
	}
	var stream bytes.Buffer
	if _, err := from.source.Stream(ctx, &stream, m.ID, m.Tenant, have.Snapshot); err != nil {
		return err
	}
	_, err = to.target.Apply(ctx, step, final, &stream)
	return err
}

func exec(t *testing.T, url, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), sql, args...)
	must(t, err)
}

func query[T any](t *testing.T, url, sql string, args ...any) (v T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(t.Context())
	must(t, conn.QueryRow(t.Context(), sql, args...).Scan(&v))
	return v
}
