package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/planner"
	"github.com/cellway/cellway/infra/problem"
)

// crowded is a directory where somebody signs up before a cell changes its state.
type crowded struct{ memory }

func (d crowded) SetCellState(ctx context.Context, id directory.CellID, to directory.CellState) (directory.Cell, error) {
	if _, err := d.CreateTenant(ctx, directory.NewTenant{Slug: "late", Cell: id}); err != nil {
		return directory.Cell{}, err
	}
	return d.memory.SetCellState(ctx, id, to)
}

// TestADrainThatMovesNobodySaysWhatItDid: its cell gets no tenants from then on.
func TestADrainThatMovesNobodySaysWhatItDid(t *testing.T) {
	t.Parallel()
	m := directorytest.NewMemory()
	for _, id := range []directory.CellID{"c1", "c2"} {
		if _, err := m.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://c", Capacity: 10, Incarnation: "db"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, slug := range []string{"a", "b"} {
		if _, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: slug, Cell: "c1"}); err != nil {
			t.Fatal(err)
		}
	}
	var stderr bytes.Buffer
	a := &app{out: &bytes.Buffer{}, err: &stderr, getenv: func(string) string { return "" }, now: time.Now}
	a.flags.output = "table"
	j := &job{app: a, api: crowded{memory{Memory: m}}, opts: &remapFlags{yes: true, confirm: 2, budget: planner.Unlimited}, remap: remap{
		verb: "drain", subject: "cell/c1", strict: true,
		plan:   func(s planner.State, o planner.Options) (planner.Plan, error) { return planner.Drain(s, "c1", o) },
		leaves: func(c directory.Cell) bool { return c.ID == "c1" },
		adopts: func(m directory.Move) bool { return m.Source == "c1" },
	}}
	if err := j.run(t.Context()); !errors.Is(err, problem.Forbidden) {
		t.Fatalf("got %v, want it refused", err)
	}
	if want := "cell c1 is draining, and gets no new tenants: cellctl cell uncordon c1"; !strings.Contains(stderr.String(), want) {
		t.Errorf("got %q, want %q", stderr.String(), want)
	}
}
