package store_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/store"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/testkit"
)

// TestAProcessNotesAnotherDatabase: who follows a standby that was promoted hears of it with
// the connection that breaks, whether or not routers have more than the standby.
func TestAProcessNotesAnotherDatabase(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t)
	var home string
	until(t, func() bool {
		return pool.QueryRow(t.Context(), `SELECT home FROM directory.version`).Scan(&home) == nil && home != ""
	})
	if err := s.Heartbeat(t.Context(), "c1", "i1"); err != nil {
		t.Fatalf("a database that is first seen: %v", err)
	}
	exec(t, pool, `UPDATE directory.version SET home = 'the primary before'`)
	exec(t, pool, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	                WHERE datname = current_database() AND pid <> pg_backend_pid() AND (query ILIKE 'listen%' OR query LIKE '%t.version + c.version%')`)
	until(t, func() bool { return errors.Is(s.Heartbeat(t.Context(), "c1", "i1"), problem.NotFound) })
	addCell(t, s, "c1")
	if err := s.Heartbeat(t.Context(), "c1", "i1"); err != nil {
		t.Error(err)
	}
	lines, err := s.Audit(t.Context(), "table", 0, 10)
	if err != nil || len(lines) != 1 || lines[0].Action != "table.home" || lines[0].Actor != "directory" {
		t.Errorf("audit: got %+v, %v", lines, err)
	}
	second := open(t, pool.Config().ConnString())
	if _, err := second.Changes(t.Context(), "r1", 9, 0); errors.Is(err, directory.ErrLifted) {
		t.Error("a record without a tenant was lifted")
	}
	if err := second.Heartbeat(t.Context(), "c1", "i1"); err != nil {
		t.Errorf("another process at the same database: %v", err)
	}
}

// TestACopyOfARecordIsAnother: what was made from a backup is lifted, and its cells have to
// say where they are; what the backup is of is neither.
func TestACopyOfARecordIsAnother(t *testing.T) {
	t.Parallel()
	first, second := fresh(t), testkit.Postgres(t)
	s, err := store.Open(t.Context(), first, 4)
	if err != nil {
		t.Fatal(err)
	}
	addCell(t, s, "c1")
	if _, err := s.CreateTenant(t.Context(), directory.NewTenant{Slug: "a"}); err != nil {
		t.Fatal(err)
	}
	pool := raw(t, first)
	until(t, func() bool {
		tag, err := pool.Exec(t.Context(), `UPDATE directory.version SET home_at = now() - interval '1 day' WHERE home <> ''`)
		return err == nil && tag.RowsAffected() == 1
	})
	s.Close()
	pool.Close()
	server, from, to := databases(t, first, second)
	exec(t, server, `DROP DATABASE `+to)
	exec(t, server, `CREATE DATABASE `+to+` TEMPLATE `+from)

	for at, copied := range map[string]bool{first: false, second: true} {
		s := open(t, at)
		if _, err := s.Changes(t.Context(), "r1", 100, 0); !errors.Is(err, problem.Gone) || errors.Is(err, directory.ErrLifted) != copied {
			t.Errorf("a router that is ahead: got %v, want the copy lifted (%t)", err, copied)
		}
		if err := s.Heartbeat(t.Context(), "c1", "i1"); errors.Is(err, problem.NotFound) != copied {
			t.Errorf("a heartbeat: got %v, want it refused by the copy (%t)", err, copied)
		}
	}
}

// TestAWindowIsOpenedByHand: a restored record that routers reach late is lifted by the
// next one's question, as docs/OPERATIONS.md has it.
func TestAWindowIsOpenedByHand(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t)
	if _, err := s.CreateTenant(t.Context(), directory.NewTenant{Slug: "a"}); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool {
		tag, err := pool.Exec(t.Context(), `UPDATE directory.version SET home_at = now() - interval '1 day' WHERE home <> ''`)
		return err == nil && tag.RowsAffected() == 1
	})
	if _, err := s.Changes(t.Context(), "r1", 100, 0); !errors.Is(err, problem.Gone) || errors.Is(err, directory.ErrLifted) {
		t.Errorf("too late: got %v, want no lift", err)
	}
	exec(t, pool, `UPDATE directory.cells SET unheard = true WHERE state <> 'retired'`)
	exec(t, pool, `UPDATE directory.version SET home_at = now()`)
	if _, err := s.Changes(t.Context(), "r1", 100, 0); !errors.Is(err, directory.ErrLifted) {
		t.Errorf("opened by hand: got %v, want it lifted", err)
	}
	if u, err := s.Snapshot(t.Context()); err != nil || len(u.Cells) != 1 || !u.Cells[0].Unheard {
		t.Errorf("what routers take then: got %+v, %v, want the cell unheard", u, err)
	}
}

// databases are the names of two databases, and a way to their server.
func databases(t *testing.T, first, second string) (server *pgxpool.Pool, from, to string) {
	t.Helper()
	a, err := url.Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := url.Parse(second)
	if err != nil {
		t.Fatal(err)
	}
	from, to = strings.TrimPrefix(a.Path, "/"), strings.TrimPrefix(b.Path, "/")
	a.Path = "/postgres"
	return raw(t, a.String()), from, to
}

// until asks again and again until done says so.
func until(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !done() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("not within half a minute")
		}
	}
}
