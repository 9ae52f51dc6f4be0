package directorytest

import (
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
)

// A KeyWorld is a directory of the cells c1 and c2 with a tenant, acme on c1, and its key.
type KeyWorld struct {
	*Memory
	Acme directory.Tenant
	Text string        // the key, as its holder shows it
	Key  directory.Key // as it is recorded
}

// NewKeyWorld makes one.
func NewKeyWorld(t testing.TB) KeyWorld {
	t.Helper()
	w := KeyWorld{Memory: NewMemory()}
	for _, id := range []directory.CellID{"c1", "c2"} {
		if _, err := w.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 9, Incarnation: "db-" + string(id)}); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.Acme, err = w.CreateTenant(t.Context(), directory.NewTenant{Slug: "acme", Cell: "c1"}); err != nil {
		t.Fatal(err)
	}
	w.Text, w.Key = token.NewAPIKey()
	w.Key.Tenant, w.Key.Name = w.Acme.ID, "ci"
	if w.Key, err = w.AddKey(t.Context(), w.Key); err != nil {
		t.Fatal(err)
	}
	return w
}
