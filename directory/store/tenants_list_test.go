package store_test

import (
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/store"
	"github.com/cellway/cellway/infra/testkit"
)

// TestFindingReadsOnlyWhatIsFound: who knows a word of one tenant's name does not pay for all of them.
func TestFindingReadsOnlyWhatIsFound(t *testing.T) {
	t.Parallel()
	url := fresh(t)
	s, db := open(t, url), raw(t, url)
	if _, err := s.AddCell(t.Context(), directory.Cell{ID: "c1", Address: "http://127.0.0.1:1", Capacity: 1e6}); err != nil {
		t.Fatal(err)
	}
	exec(t, db, `INSERT INTO directory.tenants (slug, name, cell) SELECT 't' || n, 'Tenant number ' || n, 'c1' FROM generate_series(1, 20000) n`)
	exec(t, db, `UPDATE directory.tenants SET name = 'The needle' WHERE slug = 't777'`)
	exec(t, db, `ANALYZE directory.tenants`)
	if n, how := testkit.RowsRead(t, db, store.FindTenants, int64(0), "", 1000, "need:*"); n < 1 || n > 100 {
		t.Errorf("it reads %v rows to find one tenant of 20,000:\n%s", n, how)
	}
	found, err := s.ListTenants(t.Context(), directory.TenantFilter{Name: "NEED"}, 0, 1000)
	if err != nil || len(found) != 1 || found[0].Slug != "t777" {
		t.Errorf("found %+v, %v; want t777", found, err)
	}
}
