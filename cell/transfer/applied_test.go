package transfer_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
)

// notes is a module whose second release changes rows, and nothing of the schema.
type notes struct{ release int }

func (notes) Name() string     { return "notes" }
func (notes) Tables() []string { return []string{"notes.note"} }

func (n notes) Migrations() fs.FS {
	files := fstest.MapFS{"00001_note.sql": {Data: []byte(`-- +goose Up
		CREATE TABLE notes.note (tenant_id bigint NOT NULL, id bigint NOT NULL, text text NOT NULL, PRIMARY KEY (tenant_id, id));`)}}
	if n.release > 1 {
		files["00002_louder.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\n-- +goose StatementBegin\n" + louder + "\n-- +goose StatementEnd")}
	}
	return files
}

const louder = `
	DO $$
	DECLARE
	    t bigint;
	BEGIN
	    FOR t IN SELECT tenant_id FROM cell.fence LOOP
	        PERFORM set_config('cell.tenant', t::text, true);
	        UPDATE notes.note SET text = upper(text) WHERE tenant_id = t;
	    END LOOP;
	END $$;`

// update brings the cell to a release of the module.
func (c *cell) update(t *testing.T, id directory.CellID, release int) {
	t.Helper()
	owner := c.owner.Config().ConnString()
	must(t, store.Prepare(t.Context(), owner, as(t, owner, "app_"+string(id)), notes{release}))
	must(t, store.PrepareMover(t.Context(), owner, as(t, owner, "mover_"+string(id))))
}

// TestCellsWithOtherMigrationsAreNotAlike: a tenant that came from a cell before a migration
// of rows to one behind it would never have it.
func TestCellsWithOtherMigrationsAreNotAlike(t *testing.T) {
	t.Parallel()
	a, b := newCell(t, "a", ""), newCell(t, "b", "")
	a.update(t, "a", 1)
	b.update(t, "b", 2)
	if _, err := fence.Admit(t.Context(), a.app.DB(), 1, 1); err != nil {
		t.Fatal(err)
	}
	must(t, a.do(t, 1, 1, `INSERT INTO notes.note VALUES (1, 1, 'hush')`))
	var lookA, lookB transfer.Preflight
	report := func(look *transfer.Preflight, c *cell, want int) string {
		t.Helper()
		r, err := look.Report(t.Context(), c.mover, 1, true)
		must(t, err)
		if len(r.Findings) != 0 || r.Migrations != fmt.Sprintf("notes %d", want) {
			t.Errorf("got %+v, want migration %d and no findings", r, want)
		}
		return r.Fingerprint
	}
	before, behind := report(&lookA, a, 1), report(&lookB, b, 2)
	if before == behind {
		t.Error("both cells have one fingerprint")
	}
	a.update(t, "a", 2)
	if after := report(&lookA, a, 2); after != behind {
		t.Error("cells of one release have two fingerprints")
	}
	var text string
	must(t, a.app.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
		return tx.QueryRow(ctx, `SELECT text FROM notes.note`).Scan(&text)
	}))
	if text != "HUSH" {
		t.Errorf("the migration has left %q", text)
	}
}
