package transfer_test

import (
	"bytes"
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/store/storetest"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A cell is one cell's database, with the roles as in production.
type cell struct {
	owner *pgx.Conn
	mover *pgxpool.Pool
	app   *store.Store
	*transfer.Steps
	source *transfer.Source
	target *transfer.Target
	purger *transfer.Purger
}

// as is url with another user and password.
func as(t *testing.T, raw, user string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, user+"-password")
	return u.String()
}

// newCell makes a cell's database with the tables that ddl makes; each is then
// made a tenant table.
func newCell(t *testing.T, id directory.CellID, ddl string, tables ...string) *cell {
	t.Helper()
	ctx := t.Context()
	owner := storetest.Postgres(t)
	app, mover := as(t, owner, "app_"+string(id)), as(t, owner, "mover_"+string(id))
	conn, err := pgx.Connect(ctx, owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(ctx)) })
	if err := store.Prepare(ctx, owner, app); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, ddl); err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if _, err := conn.Exec(ctx, `SELECT cell.protect($1::text::regclass)`, table); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Prepare(ctx, owner, app); err != nil { // installs capture
		t.Fatal(err)
	}
	if err := store.PrepareMover(ctx, owner, mover); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(ctx, app, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	pool, err := transfer.Open(ctx, mover, 8)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	replica, err := transfer.OpenReplica(ctx, mover, 8)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(replica.Close)
	return &cell{
		owner: conn, mover: pool, app: s, Steps: transfer.NewSteps(pool, id),
		source: transfer.NewSource(pool, nil), target: transfer.NewTarget(replica, nil), purger: transfer.NewPurger(replica, 100, 0),
	}
}

// do runs SQL as the tenant, through the fence.
func (c *cell) do(t *testing.T, tenant directory.TenantID, epoch directory.Epoch, sql string, args ...any) error {
	t.Helper()
	return c.app.InTenant(t.Context(), tenant, epoch, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
}

// round brings target from what it has to the source's present.
func round(t *testing.T, a, b *cell, m transfer.Move, final bool) (transfer.Received, error) {
	t.Helper()
	step := transfer.Step{Move: m.ID, Tenant: m.Tenant, Epoch: m.Base + 1, Undo: m.Undoes != ""}
	have, err := b.target.Received(t.Context(), step)
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if _, err := a.source.Stream(t.Context(), &stream, m.ID, m.Tenant, have.Snapshot); err != nil {
		return have, err
	}
	return b.target.Apply(t.Context(), step, final, &stream)
}

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stream is one round of the move as bytes.
func stream(t *testing.T, a *cell, m transfer.Move) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := a.source.Stream(t.Context(), &b, m.ID, m.Tenant, ""); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func cut(b []byte, n int) *bytes.Reader { return bytes.NewReader(b[:n]) }

// execAll runs several statements, as a module's handler would one by one.
func execAll(ctx context.Context, tx *store.Tx, sql string) error {
	for s := range strings.SplitSeq(sql, ";") {
		if strings.TrimSpace(s) == "" {
			continue
		}
		if _, err := tx.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
