package mover_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
)

// asking is a cell of which only questions may be asked: everything else is a call of nil.
type asking struct{ mover.Cell }

func (asking) Preflight(context.Context, transfer.Move, bool) (transfer.Report, error) {
	return transfer.Report{}, nil
}

func (asking) Fence(context.Context, directory.TenantID) (fence.Fence, error) {
	return fence.Fence{}, nil
}

// TestARehearsalChangesNothing calls every effect that there is of the executor of
// rehearsals: none comes to the cell but questions.
func TestARehearsalChangesNothing(t *testing.T) {
	t.Parallel()
	effects := reflect.TypeFor[mover.Cell]()
	for m := range effects.Methods() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("%s came to the cell: %v", m.Name, r)
				}
			}()
			in := []reflect.Value{reflect.ValueOf(t.Context())}
			for i := 1; i < m.Type.NumIn(); i++ {
				in = append(in, reflect.Zero(m.Type.In(i)))
			}
			reflect.ValueOf(mover.NewDryCell(asking{})).MethodByName(m.Name).Call(in)
		})
	}
}

// TestARehearsalTellsWhatTheMoveDoes makes each move that was rehearsed, and its undo: its cells
// are asked just what the rehearsal told.
func TestARehearsalTellsWhatTheMoveDoes(t *testing.T) {
	t.Parallel()
	for name, small := range map[string]int64{"large": 0, "small": 1 << 31} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { thereAndBack(t, small) })
		})
	}
}

// thereAndBack rehearses and makes a move and its undo, by a mover that copies tenants up to small in the pause.
func thereAndBack(t *testing.T, small int64) {
	s := newStage(t)
	s.small = small
	s.start(t, "m1")
	defer func() { s.stop(); <-s.ended }()
	last := directory.MoveID("")
	for _, to := range []directory.CellID{"b", "a"} {
		n := directory.NewMove{Tenant: 1, Target: to, Watch: time.Hour, Undoes: last}
		told := s.rehearse(t, n)
		if told.Reaches != directory.Watching || told.Error != "" || told.Bytes != 1<<30 || told.Whole != (last == "") {
			t.Errorf("to %s: got %+v", to, told)
		}
		for _, step := range told.Steps {
			if step.Phase == "" || step.Asked != (step.Step == "preflight") {
				t.Errorf("to %s: got step %+v", to, step)
			}
		}
		s.mu.Lock()
		s.heard = nil
		s.mu.Unlock()
		m, err := s.dir.CreateMove(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if m, err = settle(t.Context(), s.dir, m.ID); err != nil || m.Phase != directory.Watching {
			t.Fatalf("the move: got %+v, %v", m, err)
		}
		last = m.ID
		s.mu.Lock()
		if want := s.heard; !slices.Equal(asked(told), want) {
			t.Errorf("to %s: rehearsed %v\nthe move did %v", to, asked(told), want)
		}
		s.mu.Unlock()
	}
}

// TestAReportFitsTheRecord has cells find as much as they can.
func TestAReportFitsTheRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.cell = func(_ directory.CellID, c mover.Cell) mover.Cell { return hopeless{c} }
		s.start(t, "m1")
		defer func() { s.stop(); <-s.ended }()
		got := s.rehearse(t, directory.NewMove{Tenant: 1, Target: "b"})
		if got.Reaches != directory.Aborted || len(got.Findings) == 0 || len(got.Findings)+got.More != 2*100 {
			t.Errorf("got %s, %d findings and %d more", got.Reaches, len(got.Findings), got.More)
		}
	})
}

// hopeless is a cell with a hundred long findings.
type hopeless struct{ mover.Cell }

func (hopeless) Preflight(context.Context, transfer.Move, bool) (r transfer.Report, err error) {
	for i := range 100 {
		r.Findings = append(r.Findings, transfer.Finding{Code: "unlogged", Table: fmt.Sprint("app.t", i), Why: strings.Repeat("w", 1500), Fix: "log it"})
	}
	return r, nil
}

// unsafe is a cell with findings, and hushed one that does not answer.
type (
	unsafe struct{ mover.Cell }
	hushed struct{ mover.Cell }
)

func (unsafe) Preflight(context.Context, transfer.Move, bool) (transfer.Report, error) {
	return transfer.Report{Fingerprint: "other", Findings: []transfer.Finding{
		{Code: "no-primary-key", Table: "app.x", Why: "it has none", Fix: "add one"}, {Code: "unlogged", Table: "app.y", Why: "it is", Fix: "log it"},
	}}, nil
}

func (hushed) Preflight(context.Context, transfer.Move, bool) (transfer.Report, error) {
	return transfer.Report{}, errNet
}

func (hushed) Fence(context.Context, directory.TenantID) (fence.Fence, error) {
	return fence.Fence{}, errNet
}

// TestARehearsalTellsWhatIsAgainstTheMove has cells refuse, each in its way.
func TestARehearsalTellsWhatIsAgainstTheMove(t *testing.T) {
	t.Parallel()
	only := func(id directory.CellID, with func(mover.Cell) mover.Cell) func(directory.CellID, mover.Cell) mover.Cell {
		return func(at directory.CellID, c mover.Cell) mover.Cell {
			if at == id {
				return with(c)
			}
			return c
		}
	}
	for name, tt := range map[string]struct {
		cell    func(directory.CellID, mover.Cell) mover.Cell
		fence   fence.State // of b, at 7
		reaches directory.Phase
		error   string
		found   int
	}{
		"findings of the target": {cell: only("b", func(c mover.Cell) mover.Cell { return unsafe{c} }), reaches: directory.Aborted, error: "no-primary-key", found: 2},
		"a deleted tenant":       {fence: fence.Deleted, reaches: directory.Aborted, error: "its fence is deleted at epoch 7"},
		"a tenant of later":      {fence: fence.Moved, reaches: directory.Aborted, error: "its fence is moved at epoch 7"},
		"a target that is dead":  {cell: only("b", func(c mover.Cell) mover.Cell { return hushed{c} }), reaches: directory.Planned, error: "preflight of b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.cell = tt.cell
				if tt.fence != "" {
					s.cells["b"].fence = fence.Fence{Tenant: 1, State: tt.fence, Epoch: 7}
				}
				s.start(t, "m1")
				defer func() { s.stop(); <-s.ended }()
				got := s.rehearse(t, directory.NewMove{Tenant: 1, Target: "b"})
				if got.Reaches != tt.reaches || !strings.Contains(got.Error, tt.error) || len(got.Findings) != tt.found {
					t.Errorf("got %s, %q, %+v", got.Reaches, got.Error, got.Findings)
				}
				if tt.found > 0 && got.Findings[0] != (mover.Found{Cell: "b", Code: "no-primary-key", Table: "app.x", Why: "it has none", Fix: "add one"}) {
					t.Errorf("got %+v", got.Findings[0])
				}
			})
		})
	}
}

// TestAHeldMoveIsRehearsedToItsEnd tells where it would wait for its operator.
func TestAHeldMoveIsRehearsedToItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.start(t, "m1")
		defer func() { s.stop(); <-s.ended }()
		got := s.rehearse(t, directory.NewMove{Tenant: 1, Target: "b", StopAt: directory.CaughtUp})
		waits := slices.IndexFunc(got.Steps, func(s mover.Step) bool { return s.Step == "wait" })
		freezes := slices.IndexFunc(got.Steps, func(s mover.Step) bool { return s.Step == "freeze" })
		if got.Reaches != directory.Watching || waits < 0 || freezes < waits {
			t.Errorf("got %+v", got)
		}
	})
}

// stuck is a cell that does not answer before the caller gives up.
type stuck struct{ mover.Cell }

func (stuck) Preflight(ctx context.Context, _ transfer.Move, _ bool) (transfer.Report, error) {
	<-ctx.Done()
	return transfer.Report{}, errNet
}

// TestARehearsalIsTakenOver has the mover die that rehearses.
func TestARehearsalIsTakenOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		var answers atomic.Bool
		s.cell = func(_ directory.CellID, c mover.Cell) mover.Cell {
			if answers.Load() {
				return c
			}
			return stuck{c}
		}
		s.start(t, "m1")
		over := make(chan struct{})
		go func() {
			defer close(over)
			time.Sleep(5 * time.Second) // virtual: m1 has it
			s.stop()
			<-s.ended
			answers.Store(true)
			s.start(t, "m2")
		}()
		if got := s.rehearse(t, directory.NewMove{Tenant: 1, Target: "b"}); got.Reaches != directory.Watching {
			t.Errorf("got %+v", got)
		}
		<-over
		s.stop()
		<-s.ended
	})
}
