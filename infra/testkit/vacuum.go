package testkit

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// Autovacuum returns when autovacuum works on a table, slowly, and begins anew where it
// is ended. url is a superuser's; remove deletes the table's rows, of which 10,000 of 1,900 bytes
// take it minutes.
func Autovacuum(tb testing.TB, url, table, remove string) {
	tb.Helper()
	ctx, cancel := begin(tb)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		tb.Fatalf("slow autovacuum: %v", err)
	}
	defer conn.Close(ctx)
	for _, sql := range []string{
		`ALTER SYSTEM SET autovacuum_naptime = '1s'`, `SELECT pg_reload_conf()`, // of the server, which other tests share
		`ALTER TABLE ` + table + ` SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, autovacuum_analyze_threshold = 2000000000)`,
		remove,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			tb.Fatalf("slow autovacuum: %v", err)
		}
	}
	const works = `SELECT EXISTS (SELECT FROM pg_stat_progress_vacuum v JOIN pg_stat_activity a USING (pid)
		WHERE v.datname = current_database() AND v.relid = $1::text::regclass AND a.backend_type = 'autovacuum worker')`
	for there := false; !there; {
		if err := conn.QueryRow(ctx, works, table).Scan(&there); err != nil {
			tb.Fatalf("wait for autovacuum: %v", err)
		}
	}
}
