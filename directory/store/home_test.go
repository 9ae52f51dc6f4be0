package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
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
