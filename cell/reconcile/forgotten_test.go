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
}
