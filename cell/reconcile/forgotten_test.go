package reconcile_test

import (
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/testkit"
)

// TestARestoredDirectoryGivesNoIDAgain: it has forgotten the last tenants, and the cell has the
// fences of them, also of who was deleted and purged.
func TestARestoredDirectoryGivesNoIDAgain(t *testing.T) {
	t.Parallel()
	w := &world{Memory: directorytest.NewMemory()}
	owner := testkit.Postgres(t)
	w.prepare(t, "c1", owner)
	exec(t, owner, `INSERT INTO cell.fence (tenant_id, epoch, state) VALUES (1, 1, 'active'), (17, 2, 'deleted')`)
	c := w.open(t, "c1", owner)
	c.watch()
	c.serves(t)
	told(t, w, c)
	made, err := w.CreateTenant(t.Context(), directory.NewTenant{Slug: "next", Cell: "c1"})
	must(t, err)
	if made.ID <= 17 {
		t.Errorf("got id %d again", made.ID)
	}
	// Nor one that the cell would refuse, because it was given when the cell last asked after a loss.
	exec(t, owner, `UPDATE cell.serving SET admit_above = 5000`)
	var greatest directory.TenantID
	must(t, c.app.DB().QueryRow(t.Context(), `SELECT cell.greatest_tenant()`).Scan(&greatest))
	if greatest != 5000 {
		t.Errorf("the greatest is %d, want 5000", greatest)
	}
}
