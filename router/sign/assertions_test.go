package sign

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router/table"
)

// TestAssertionsAreKeptForTheirWindow and for nobody else.
func TestAssertionsAreKeptForTheirWindow(t *testing.T) {
	t.Parallel()
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	a := &Assertions{Keys: keys}
	now := time.Unix(1_800_000_000, 0)
	entry := func(tenant, epoch int, cell directory.CellID) table.Entry {
		return table.Entry{Placement: directory.Placement{Tenant: directory.TenantID(tenant), Cell: cell, Epoch: directory.Epoch(epoch), State: directory.Active}}
	}
	seen := map[string]bool{}
	for _, tt := range []struct {
		e  table.Entry
		at time.Time
	}{
		{entry(1, 1, "c1"), now},
		{entry(1, 2, "c1"), now}, // another epoch
		{entry(1, 1, "c2"), now}, // another cell
		{entry(65, 1, "c1"), now},
		{entry(1, 1, "c1"), now.Add(time.Second)}, // another window
	} {
		first, err := a.Of(tt.e, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if seen[first] {
			t.Errorf("%+v at %v got another's assertion", tt.e, tt.at)
		}
		seen[first] = true
		if again, err := a.Of(tt.e, tt.at.Add(999*time.Millisecond)); again != first || err != nil {
			t.Errorf("%+v: got %q, %v within the window, want %q", tt.e, again, err, first)
		}
		got, err := keys.For(token.OfCell(tt.e.Cell)).CheckAssertion(first, tt.e.Cell, tt.at)
		if err != nil || got.Tenant != tt.e.Tenant || got.Epoch != tt.e.Epoch || got.Window != tt.at.Unix() {
			t.Errorf("%+v: asserted %+v, %v", tt.e, got, err)
		}
	}
}

func TestAssertionsCostNoMemory(t *testing.T) {
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	a, now, text := &Assertions{Keys: keys}, time.Unix(1_800_000_000, 0), make([]byte, 0, 256)
	e := table.Entry{Placement: directory.Placement{Tenant: 1, Cell: "c1", Epoch: 1, State: directory.Active}}
	for name, step := range map[string]time.Duration{"the first one of a second": time.Second, "one that is kept": 0} {
		if n := testing.AllocsPerRun(100, func() {
			now = now.Add(step)
			text, _ = a.AppendTo(text[:0], e, now)
		}); n > 0 {
			t.Errorf("%s: got %v allocations, want none", name, n)
		}
	}
}

// TestAssertionsAreTheirOwners, who may keep them while others are signed.
func TestAssertionsAreTheirOwners(t *testing.T) {
	t.Parallel()
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	a, now := &Assertions{Keys: keys}, time.Unix(1_800_000_000, 0)
	kept := map[directory.TenantID]string{}
	for i := range directory.TenantID(1000) {
		at := now.Add(time.Duration(i/500) * time.Second)
		text, err := a.Of(table.Entry{Placement: directory.Placement{Tenant: i + 1, Cell: "c1", Epoch: 1}}, at)
		if err != nil {
			t.Fatal(err)
		}
		kept[i+1] = text
	}
	for tenant, text := range kept {
		if got, err := keys.For(token.OfCell("c1")).CheckAssertion(text, "c1", now.Add(time.Second)); err != nil || got.Tenant != tenant {
			t.Fatalf("tenant %d has the assertion %q: %+v, %v", tenant, text, got, err)
		}
	}
}

func TestNoAssertionWithoutAKey(t *testing.T) {
	t.Parallel()
	if _, err := (&Assertions{}).Of(table.Entry{}, time.Now()); err == nil {
		t.Error("an assertion was made without a key")
	}
}
