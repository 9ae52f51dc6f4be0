package store_test

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/store"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// withCell is a record with the ready cell c1.
func withCell(t *testing.T) (*store.Store, *pgxpool.Pool) {
	t.Helper()
	url := fresh(t)
	s := open(t, url)
	addCell(t, s, "c1")
	return s, raw(t, url)
}

func addCell(t *testing.T, s *store.Store, id directory.CellID) {
	t.Helper()
	if _, err := s.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 100, Incarnation: "i1"}); err != nil {
		t.Fatalf("add cell %s: %v", id, err)
	}
}

func TestASilentCellIsNotHealthy(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t)
	for what, sql := range map[string]string{
		"silent":              `UPDATE directory.heartbeats SET seen_at = now() - interval '11 seconds'`,
		"another incarnation": `UPDATE directory.heartbeats SET incarnation = 'i2', seen_at = now()`,
		"unheard of":          `DELETE FROM directory.heartbeats`,
	} {
		exec(t, pool, sql)
		c, err := s.Cell(t.Context(), "c1")
		if err != nil || c.Healthy {
			t.Errorf("%s: got %+v, %v, want it not healthy", what, c, err)
		}
		if _, err := s.CreateTenant(t.Context(), directory.NewTenant{Slug: "a"}); !errors.Is(err, problem.Conflict) {
			t.Errorf("%s: create a tenant: got %v, want conflict", what, err)
		}
		if err := s.Heartbeat(t.Context(), "c1", "i1"); err != nil {
			t.Fatalf("heartbeat: %v", err)
		}
		if c, err := s.Cell(t.Context(), "c1"); err != nil || !c.Healthy {
			t.Errorf("after a heartbeat: got %+v, %v, want it healthy", c, err)
		}
	}
}

func TestASilentRouterDoesNotHoldTheWatermark(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t)
	if _, err := s.Changes(t.Context(), "r1", 0, 0); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `UPDATE directory.routers SET seen_at = now() - interval '11 seconds'`)
	w, err := s.Watermark(t.Context())
	if err != nil || w.Watermark != 1 || len(w.Routers) != 1 || w.Routers[0].Live {
		t.Errorf("got %+v, %v, want the watermark at 1 and r1 shown as silent", w, err)
	}
}

// TestOldAuditLinesAreForgotten, and no others, however many there are.
func TestOldAuditLinesAreForgotten(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t)
	exec(t, pool, `UPDATE directory.audit SET at = now() - interval '23 hours'`)
	exec(t, pool, `INSERT INTO directory.audit (at, actor, action, subject) SELECT now() - interval '25 hours', 'ann', 'x', 'y' FROM generate_series(1, 10100)`)
	addCell(t, s, "c2")
	for _, want := range []int64{10100, 0} {
		if n, err := s.PruneAudit(t.Context(), 24*time.Hour); err != nil || n != want {
			t.Errorf("got %d, %v, want %d", n, err, want)
		}
	}
	lines, err := s.Audit(t.Context(), "", 0, 10)
	if err != nil || len(lines) != 2 || lines[0].Subject != "cell/c1" || lines[1].Subject != "cell/c2" {
		t.Errorf("what is left: got %+v, %v, want both cells' lines", lines, err)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t) // version 1
	for _, id := range []directory.CellID{"c2", "c3", "c4", "c5"} {
		addCell(t, s, id)
	}
	if _, err := s.Changes(t.Context(), "r1", 5, 0); err != nil {
		t.Fatal(err)
	}
	prune := func(keep int64, want store.Pruned) {
		t.Helper()
		if got, err := s.Prune(t.Context(), keep, time.Hour); err != nil || got != want {
			t.Errorf("prune to %d: got %+v, %v, want %+v", keep, got, err, want)
		}
	}
	prune(5, store.Pruned{})
	exec(t, pool, `UPDATE directory.routers SET seen_at = now() - interval '2 hours'`)
	exec(t, pool, `UPDATE directory.heartbeats SET seen_at = now() - interval '2 hours' WHERE cell = 'c5'`)
	prune(2, store.Pruned{Changes: 3, Routers: 1, Cells: 1})
	for since, want := range map[directory.Version]error{0: problem.Gone, 2: problem.Gone, 3: nil, 5: nil} {
		if _, err := s.Changes(t.Context(), "", since, 0); !errors.Is(err, want) {
			t.Errorf("changes since %d: got %v, want %v", since, err, want)
		}
	}
	if u, err := s.Snapshot(t.Context()); err != nil || u.Version != 5 || len(u.Cells) != 5 {
		t.Errorf("snapshot: got %+v, %v", u, err)
	}
	prune(0, store.Pruned{Changes: 2})
	addCell(t, s, "c6")
	if u, err := s.Changes(t.Context(), "", 5, 0); err != nil || u.Version != 6 || len(u.Cells) != 1 {
		t.Errorf("changes since the version that everything was pruned to: got %+v, %v", u, err)
	}
}

// TestChangesOutliveTheirConnections ends every session of the database while
// somebody waits: the listener comes back and the change arrives.
func TestChangesOutliveTheirConnections(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t)
	type result struct {
		update directory.Update
		err    error
	}
	results := make(chan result, 1)
	go func() {
		u, err := s.Changes(t.Context(), "r1", 1, time.Minute)
		results <- result{u, err}
	}()
	poll(t, "the router", func() bool {
		w, err := s.Watermark(t.Context())
		return err == nil && len(w.Routers) == 1
	})
	exec(t, pool, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	poll(t, "a connection", func() bool { return s.Ping(t.Context()) == nil })
	addCell(t, s, "c2")
	if got := <-results; got.err != nil || got.update.Version != 2 {
		t.Errorf("got %+v, %v, want version 2", got.update, got.err)
	}
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func TestOneProcessHearsOfAnother(t *testing.T) {
	t.Parallel()
	url := fresh(t)
	one, two := open(t, url), open(t, url)
	heard := make(chan directory.Version, 1)
	go func() {
		u, err := one.Changes(t.Context(), "r1", 0, time.Minute)
		if err != nil {
			t.Errorf("changes: %v", err)
		}
		heard <- u.Version
	}()
	poll(t, "the router", func() bool {
		w, err := two.Watermark(t.Context())
		return err == nil && len(w.Routers) == 1
	})
	addCell(t, two, "c1")
	if got := <-heard; got != 1 {
		t.Errorf("got version %d, want 1", got)
	}
}

func TestCloseEndsTheWaiting(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), fresh(t), 4)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.Changes(t.Context(), "r1", 0, time.Minute)
		ended <- err
	}()
	poll(t, "the router", func() bool {
		w, err := s.Watermark(t.Context())
		return err == nil && len(w.Routers) == 1
	})
	s.Close()
	if err := <-ended; err == nil {
		t.Error("changes of a closed store: got nil, want an error")
	}
}

func TestADeadDatabaseIsUnavailable(t *testing.T) {
	t.Parallel()
	recordURL := fresh(t)
	s := open(t, recordURL)
	u, err := url.Parse(recordURL)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres" // from another database this one can be closed
	admin := raw(t, u.String())
	exec(t, admin, `ALTER DATABASE `+name+` ALLOW_CONNECTIONS false`)
	exec(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, name)
	for what, step := range map[string]func(context.Context) error{
		"list":   func(ctx context.Context) error { _, err := s.ListCells(ctx); return err },
		"change": func(ctx context.Context) error { _, err := s.SetCellState(ctx, "c1", directory.Cordoned); return err },
		"claim": func(ctx context.Context) error {
			return s.TakeClaim(ctx, directory.Claim{Kind: "login", Name: "ann", Tenant: 1})
		},
		"watch": func(ctx context.Context) error { _, err := s.Changes(ctx, "", 1, 10*time.Millisecond); return err },
	} {
		if err := step(t.Context()); !errors.Is(err, problem.Unavailable) || strings.Contains(problemDetail(err), "FATAL") {
			t.Errorf("%s: got %v, want unavailable", what, err)
		}
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("ping: got nil, want an error")
	}
	exec(t, admin, `ALTER DATABASE `+name+` ALLOW_CONNECTIONS true`)
	poll(t, "the database", func() bool { return s.Ping(t.Context()) == nil })
}

func problemDetail(err error) string {
	if e, ok := errors.AsType[*problem.Error](err); ok {
		return e.Detail
	}
	return ""
}

func TestTheSchemaIsThatOfTheNewestMigration(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	newest, _, _ := strings.Cut(filepath.Base(slices.Max(files)), "_")
	want, err := strconv.ParseInt(newest, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, fresh(t)).Schema(t.Context()); err != nil || got != want {
		t.Errorf("got %d, %v, want %d", got, err, want)
	}
}

// TestNoMigrationLeavesAGap: goose refuses a number that comes later and is below the newest. The gaps up to
// 20 are older.
func TestNoMigrationLeavesAGap(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	slices.Sort(files)
	want := 20
	for _, f := range files {
		number, _, _ := strings.Cut(filepath.Base(f), "_")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		if n < 20 {
			continue
		}
		if n != want {
			t.Errorf("got %s, want number %d", f, want)
		}
		want = n + 1
	}
}

// TestTheSchemaHoldsTheInvariants writes past the store what must never be.
func TestTheSchemaHoldsTheInvariants(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t)
	a, err := s.CreateTenant(t.Context(), directory.NewTenant{Slug: "a", Hosts: []string{"a.test"}})
	if err != nil {
		t.Fatal(err)
	}
	for sql, code := range map[string]string{
		`INSERT INTO directory.version (one) VALUES (false)`:                                            pg.CheckViolation,
		`UPDATE directory.version SET oldest = version + 1`:                                             pg.CheckViolation,
		`UPDATE directory.cells SET state = 'retired'`:                                                  pg.CheckViolation,
		`UPDATE directory.cells SET tenants = -1`:                                                       pg.CheckViolation,
		`UPDATE directory.cells SET state = 'asleep'`:                                                   pg.CheckViolation,
		`UPDATE directory.tenants SET cell = 'c9'`:                                                      pg.ForeignKeyViolation,
		`UPDATE directory.tenants SET epoch = 0`:                                                        pg.CheckViolation,
		`UPDATE directory.tenants SET state = 'suspended'`:                                              pg.CheckViolation,
		`INSERT INTO directory.tenants (slug, cell) VALUES ('a', 'c1')`:                                 pg.UniqueViolation,
		`INSERT INTO directory.claims (kind, name, tenant) VALUES ('slug', 'a', ` + a.ID.String() + `)`: pg.UniqueViolation,
		`INSERT INTO directory.claims (kind, name, tenant) VALUES ('login', 'x', 999)`:                  pg.ForeignKeyViolation,
		`INSERT INTO directory.changes (version) VALUES (900)`:                                          pg.CheckViolation,
		`INSERT INTO directory.changes (version, cell) VALUES (1, 'c1')`:                                pg.UniqueViolation,
		`DELETE FROM directory.cells`:                                                                   pg.ForeignKeyViolation,
	} {
		if _, err := pool.Exec(t.Context(), sql); pg.Code(err) != code {
			t.Errorf("%s: got %v, want %s", sql, err, code)
		}
	}
}

func TestMigrateTwiceAtOnce(t *testing.T) {
	t.Parallel()
	url := fresh(t) // once already
	errs := make(chan error, 2)
	for range 2 {
		go func() { errs <- store.Migrate(t.Context(), url) }()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Errorf("migrate: %v", err)
		}
	}
}
