package transfer_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A note is a row that a tenant changes again and again.
const note = `
	CREATE SCHEMA app;
	GRANT USAGE ON SCHEMA app TO cell_app;
	CREATE TABLE app.note (tenant_id bigint NOT NULL, id int NOT NULL, n int NOT NULL, PRIMARY KEY (tenant_id, id));
	GRANT SELECT, INSERT, UPDATE ON app.note TO cell_app`

// compact makes one note of each key's, as the cell's worker does.
func (c *cell) compact(t *testing.T) (gone int) {
	t.Helper()
	for piece := range 3 {
		var n int
		must(t, c.app.DB().QueryRow(t.Context(), `SELECT cell.compact($1, $2, 3)`, mover, piece).Scan(&n))
		gone += n
	}
	return gone
}

// worthCompacting reports whether the cell's worker would compact the tenant's notes, more than 10.
func (c *cell) worthCompacting(t *testing.T) (yes bool) {
	t.Helper()
	must(t, c.app.DB().QueryRow(t.Context(), `SELECT notes > 10 AND 10 * (notes - keys) >= notes FROM cell.noted($1)`, mover).Scan(&yes))
	return yes
}

// TestCompactionForgetsNoChange: however many notes of a key become one, a round
// brings what changed after the snapshot that the target has, also where the
// transaction that began first ended last.
func TestCompactionForgetsNoChange(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := newCell(t, "a", note, "app.note"), newCell(t, "b", note, "app.note")
	if _, err := fence.Admit(ctx, a.app.DB(), mover, 1); err != nil {
		t.Fatal(err)
	}
	must(t, a.do(t, mover, 1, `INSERT INTO app.note SELECT $1, i, 0 FROM generate_series(1, 20) i`, mover))
	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	must(t, b.Reserve(ctx, m))
	must(t, a.Arm(ctx, m, wait))
	for range 30 {
		must(t, a.do(t, mover, 1, `UPDATE app.note SET n = n + 1 WHERE tenant_id = $1`, mover))
	}
	if !a.worthCompacting(t) {
		t.Error("600 notes of 20 keys are not worth compacting")
	}
	if gone, left := a.compact(t), a.noted(t); gone != 29*20 || left != 20 {
		t.Errorf("got %d notes gone and %d left, want 580 and 20", gone, left)
	}
	if a.worthCompacting(t) {
		t.Error("notes of which no two are of one key are compacted again and again")
	}
	// The older transaction takes its number now and changes row 1 last.
	err := a.app.InTenant(ctx, mover, 1, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE app.note SET n = 1000 WHERE tenant_id = $1 AND id = 20`, mover); err != nil {
			return err
		}
		must(t, a.do(t, mover, 1, `UPDATE app.note SET n = 500 WHERE tenant_id = $1 AND id = 1`, mover))
		if _, err := round(t, a, b, m, false); err != nil { // its snapshot sees the younger one only
			t.Fatal(err)
		}
		_, err := tx.Exec(ctx, `UPDATE app.note SET n = 1000 WHERE tenant_id = $1 AND id = 1`, mover)
		return err
	})
	must(t, err)
	if a.compact(t) == 0 {
		t.Error("nothing was compacted")
	}
	must(t, a.Freeze(ctx, m, wait))
	if _, err := round(t, a, b, m, true); err != nil {
		t.Fatal(err)
	}
	same(t, "after the last round", contents(t, b, mover), contents(t, a, mover))
}

// TestCompactionLeavesTheUnarmedAlone: notes of a tenant that is not armed are not
// its to make.
func TestCompactionLeavesTheUnarmedAlone(t *testing.T) {
	t.Parallel()
	a := newCell(t, "a", note, "app.note")
	if _, err := fence.Admit(t.Context(), a.app.DB(), mover, 1); err != nil {
		t.Fatal(err)
	}
	_, err := a.owner.Exec(t.Context(), `INSERT INTO cell.dirty (tenant_id, tbl, pk) SELECT $1, 'app.note', '["1"]' FROM generate_series(1, 5)`, mover)
	must(t, err)
	if gone := a.compact(t); gone != 0 || a.noted(t) != 5 {
		t.Errorf("got %d notes gone, %d left", gone, a.noted(t))
	}
}

// TestLateReservationFindsATombstone: a reservation that arrives after its move was
// aborted changes nothing, also where it is the first that the target hears of the
// tenant, or where an older tombstone is there.
func TestLateReservationFindsATombstone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newCell(t, "b", note, "app.note")
	for _, tt := range []struct {
		tenant directory.TenantID
		before string
	}{
		{7, ``},
		{8, `INSERT INTO cell.fence (tenant_id, epoch, state, moved_to, move_id) VALUES (8, 2, 'moved', 'c', 'mv_old')`},
		{9, `INSERT INTO cell.fence (tenant_id, epoch, state, move_id) VALUES (9, 2, 'incoming', 'mv_old')`},
	} {
		if tt.before != "" {
			_, err := b.owner.Exec(ctx, tt.before)
			must(t, err)
		}
		m := transfer.Move{ID: "mv_new", Tenant: tt.tenant, Base: 5, Source: "a", Target: "b"}
		must(t, b.Discard(ctx, m))
		must(t, b.Discard(ctx, m))
		if err := b.Reserve(ctx, m); !errors.Is(err, problem.Conflict) {
			t.Errorf("tenant %d: a late reservation: got %v, want a conflict", tt.tenant, err)
		}
		f, err := b.Fence(ctx, tt.tenant)
		if err != nil || f.State != fence.Moved || f.Epoch != 6 || f.MovedTo != "a" || f.Move != "mv_new" {
			t.Errorf("tenant %d: got %+v, %v, want a tombstone of the move", tt.tenant, f, err)
		}
		if _, err := b.purger.Rows(ctx, transfer.Step{Move: m.ID, Tenant: m.Tenant, Epoch: 6}); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("tenant %d: purge: %v", tt.tenant, err)
		}
		next := transfer.Move{ID: "mv_next", Tenant: tt.tenant, Base: 7, Source: "a", Target: "b"}
		must(t, b.Reserve(ctx, next))
	}
}
