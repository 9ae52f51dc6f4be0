package store_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/store"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// fresh is a migrated, empty database.
func fresh(tb testing.TB) string {
	tb.Helper()
	return testkit.PostgresFilled(tb, "record", store.Migrate)
}

// open opens the record at url; it closes with the test.
func open(tb testing.TB, url string) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), url, 16)
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	tb.Cleanup(s.Close)
	return s
}

// raw is a pool for statements that the store does not offer.
func raw(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.New(tb.Context(), url)
	if err != nil {
		tb.Fatalf("open pool: %v", err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

func exec(tb testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	tb.Helper()
	if _, err := pool.Exec(tb.Context(), sql, args...); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	directorytest.Run(t, func(t *testing.T) directory.Directory { return open(t, fresh(t)) })
}

func TestRestored(t *testing.T) {
	t.Parallel()
	directorytest.RunRestored(t, func(t *testing.T) directorytest.Restorable {
		url := fresh(t)
		s, pool := open(t, url), raw(t, url)
		return directorytest.Restorable{
			Directory: s,
			Restored: func(t *testing.T) {
				exec(t, pool, `UPDATE directory.version SET home = 'elsewhere'`)
			},
			Later: func(t *testing.T, d time.Duration) {
				exec(t, pool, `UPDATE directory.version SET home_at = home_at - $1::interval, lifted_at = lifted_at - $1::interval`, d)
			},
		}
	})
}

func TestRollouts(t *testing.T) {
	t.Parallel()
	directorytest.RunRollouts(t, func(t *testing.T) directorytest.Staged {
		s := open(t, fresh(t))
		return directorytest.Staged{Directory: s, Rollouts: s, Step: s.StepRollout}
	})
}
