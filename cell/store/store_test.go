package store_test

import (
	"context"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/store/storetest"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// appURL is owner's database as a role of its own, named after the database.
func appURL(tb testing.TB, owner string) string {
	tb.Helper()
	u, err := url.Parse(owner)
	if err != nil {
		tb.Fatal(err)
	}
	u.User = url.UserPassword("app"+u.Path[1:], "secret'\"%")
	return u.String()
}

// open makes a database of its own and a Store on it. The owner's connection
// gets past row security, not past the guard.
func open(tb testing.TB, modules ...store.Schema) (*store.Store, *pgx.Conn) {
	tb.Helper()
	owner := storetest.Postgres(tb)
	app := appURL(tb, owner)
	if err := store.Prepare(tb.Context(), owner, app, modules...); err != nil {
		tb.Fatal(err)
	}
	s, err := store.Open(tb.Context(), app, store.Options{Cell: "c1"})
	if err != nil {
		tb.Fatal(err)
	}
	conn, err := pgx.Connect(tb.Context(), owner)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		conn.Close(context.Background())
		s.Close()
	})
	return s, conn
}

// admit makes tenants active at epoch 1.
func admit(tb testing.TB, s *store.Store, tenants ...directory.TenantID) {
	tb.Helper()
	for _, t := range tenants {
		if _, err := fence.Admit(tb.Context(), s.DB(), t, 1); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestIncarnationStays(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	first, err := s.Incarnation(t.Context())
	if err != nil || len(first) != 36 {
		t.Fatalf("got %q, %v", first, err)
	}
	second, err := s.Incarnation(t.Context())
	if err != nil || second != first {
		t.Errorf("got %q, %v, want %q", second, err, first)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
