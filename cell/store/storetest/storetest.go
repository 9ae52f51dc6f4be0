// Package storetest gives tests databases of cells.
package storetest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/testkit"
)

// Postgres is testkit.Postgres with the cell's own schema in it, as store.Prepare leaves it: a copy, which
// is there sooner than all migrations are through. A test prepares it for its role and its modules.
func Postgres(tb testing.TB) string {
	tb.Helper()
	url := testkit.PostgresFilled(tb, "cell", func(ctx context.Context, url string) error {
		return store.Prepare(ctx, url, testkit.SetUser(tb, url, "app_of_the_mould", "password"))
	})
	conn, err := pgx.Connect(tb.Context(), url)
	if err != nil {
		tb.Fatalf("connect to a copied database: %v", err)
	}
	defer conn.Close(context.WithoutCancel(tb.Context()))
	// A copy is what a restored database is, of which nobody knows yet whether it is whole: it is.
	if _, err := conn.Exec(tb.Context(), `UPDATE cell.serving SET home = cell.home(), started = pg_postmaster_start_time()`); err != nil {
		tb.Fatalf("make a copied database serve: %v", err)
	}
	return url
}
