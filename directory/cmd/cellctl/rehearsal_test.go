package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/planner"
	"github.com/cellway/cellway/infra/problem"
)

// dryRuns is a directory with a tenant on c1 of which n dry runs are asked for.
func dryRuns(t *testing.T, n int) (*directorytest.Memory, []directory.RehearsalID) {
	t.Helper()
	m := directorytest.NewMemory()
	for _, id := range []directory.CellID{"c1", "c2"} {
		if _, err := m.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://c", Capacity: 10, Incarnation: "db"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: "a", Cell: "c1"}); err != nil {
		t.Fatal(err)
	}
	var ids []directory.RehearsalID
	for range n {
		made, err := m.CreateMove(t.Context(), directory.NewMove{Tenant: 1, Target: "c2", DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, made.Rehearsal)
	}
	return m, ids
}

// asker is cellctl with the default timeout, and what it says.
func asker() (*app, *bytes.Buffer) {
	var said bytes.Buffer
	a := &app{out: &bytes.Buffer{}, err: &said, getenv: func(string) string { return "" }, now: time.Now}
	a.flags.output, a.flags.timeout = "table", 30*time.Second
	return a, &said
}

// TestADryRunWaitsForMoversThatAreBusy, and not for those that are gone.
func TestADryRunWaitsForMoversThatAreBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, ids := dryRuns(t, 2)
		a, said := asker()
		if _, err := m.LeaseRehearsal(t.Context(), ids[0], "m1", time.Minute); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(50*time.Second, func() {
			r, err := m.LeaseRehearsal(context.WithoutCancel(t.Context()), ids[1], "m1", time.Minute)
			if err == nil {
				r.Report = json.RawMessage(`{"rows":7}`)
				err = m.EndRehearsal(context.WithoutCancel(t.Context()), r)
			}
			if err != nil {
				t.Error(err)
			}
		})
		r, err := a.rehearsed(t.Context(), memory{Memory: m}, ids[1])
		if err != nil || r.Rows != 7 || !strings.Contains(said.String(), "the movers are busy with other dry runs") {
			t.Errorf("got %+v, %v, and %q", r, err, said.String())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		m, ids := dryRuns(t, 1)
		a, _ := asker()
		if _, err := m.LeaseRehearsal(t.Context(), ids[0], "m1", 10*time.Second); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := a.rehearsed(t.Context(), memory{Memory: m}, ids[0])
		if !errors.Is(err, problem.Timeout) || !strings.Contains(err.Error(), "is gone") || time.Since(began) > time.Minute {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}

// TestADryRunWaitsUntilFewerAreOpen, one of a plan too, and not for longer than --timeout.
func TestADryRunWaitsUntilFewerAreOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, ids := dryRuns(t, directory.RehearsalsOpen)
		a, _ := asker()
		time.AfterFunc(20*time.Second, func() {
			r, err := m.LeaseRehearsal(context.WithoutCancel(t.Context()), ids[0], "m1", time.Minute)
			if err == nil {
				r.Report = json.RawMessage(`{}`)
				err = m.EndRehearsal(context.WithoutCancel(t.Context()), r)
			}
			if err != nil {
				t.Error(err)
			}
		})
		j := &job{app: a, api: memory{Memory: m}, opts: &remapFlags{}, made: plan{Moves: []step{{Tenant: 1, To: "c2"}}}}
		asked := 0
		err := j.each(t.Context(), true, func(*step, directory.Move) { asked++ })
		if err != nil || asked != 1 {
			t.Errorf("a plan: got %v, %d asked for", err, asked)
		}
		began := time.Now()
		_, err = a.create(t.Context(), memory{Memory: m}, directory.NewMove{Tenant: 1, Target: "c2", DryRun: true})
		took := time.Since(began)
		if h, ok := errors.AsType[hinted](err); !ok || !errors.Is(err, problem.RateLimited) || took > a.flags.timeout || !strings.Contains(h.hint, "--timeout") {
			t.Errorf("one too many: got %v after %v", err, took)
		}
	})
}

// TestADryRunThatIsForgottenIsNoTenantThatIsMissing: scripts tell by the exit code.
func TestADryRunThatIsForgottenIsNoTenantThatIsMissing(t *testing.T) {
	t.Parallel()
	m, _ := dryRuns(t, 0)
	a, _ := asker()
	if _, err := a.rehearsed(t.Context(), memory{Memory: m}, "rh_0"); !errors.Is(err, problem.Timeout) || errors.Is(err, problem.NotFound) {
		t.Errorf("got %v", err)
	}
}

// pricey is a directory that does not list moves.
type pricey struct{ memory }

func (pricey) ListMoves(context.Context, directory.TenantID, bool, directory.MoveID, int) ([]directory.Move, error) {
	return nil, problem.New(problem.Unavailable, "not now")
}

// TestWhatWasFoundIsToldWithoutItsPrice also where the price is not known.
func TestWhatWasFoundIsToldWithoutItsPrice(t *testing.T) {
	t.Parallel()
	m, ids := dryRuns(t, 1)
	r, err := m.LeaseRehearsal(t.Context(), ids[0], "m1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	r.Report = json.RawMessage(`{"steps":[{"phase":"reserved","cell":"c1","step":"preflight","does":"nothing","asked":true}],"reaches":"watching"}`)
	if err := m.EndRehearsal(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	a, said := asker()
	if err := a.rehearse(t.Context(), pricey{memory{Memory: m}}, directory.Move{Tenant: 1, Rehearsal: ids[0]}, "cellctl x"); err != nil {
		t.Fatal(err)
	}
	if got := a.out.(*bytes.Buffer).String(); !strings.Contains(got, "preflight") || !strings.Contains(said.String(), "what it would cost is not known: not now") {
		t.Errorf("got %q, and %q", got, said.String())
	}
}

// TestAPlansSizesMayBeTheLeast where cells have not counted everything.
func TestAPlansSizesMayBeTheLeast(t *testing.T) {
	t.Parallel()
	p := plan{Verb: "drain", Subject: "cell/c1", Tenants: 2}
	p.Moves = []step{{Tenant: 1, Forecast: planner.Forecast{Bytes: 5}}, step{Tenant: 2}.sized(rehearsed{Bytes: 2_000_000_000, AtLeast: true}, planner.Default())}
	p.Forecast.measure(p.Moves)
	if got, want := p.summary(), "to copy: at least 2.0 GB of the 2 tenants whose size is known"; !strings.Contains(got, want) || !strings.Contains(got, "forecast: at least ") {
		t.Errorf("got %q, want %q in it", got, want)
	}
	if s := (step{Tenant: 1, Forecast: planner.Forecast{Bytes: 5}}).sized(rehearsed{Unsized: true}, planner.Default()); s.Forecast.Bytes != 5 || !s.AtLeast {
		t.Errorf("one that was not measured: got %+v", s)
	}
}
