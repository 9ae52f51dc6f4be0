package mover_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// slowly is a cell that answers, and takes longer than anybody waits: to measure a tenant, or for each preflight.
type slowly struct {
	mover.Cell
	each bool
}

func (c slowly) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	if measure || c.each {
		<-ctx.Done()
		return transfer.Report{}, ctx.Err()
	}
	return c.Cell.Preflight(ctx, m, measure)
}

// TestARehearsalEndsInTime has the source take long; what is known is told, and to whom it matters.
func TestARehearsalEndsInTime(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		each    bool
		reaches directory.Phase
		error   string
		within  time.Duration
	}{
		"to measure":     {reaches: directory.Watching, within: 40 * time.Second},
		"each preflight": {each: true, reaches: directory.Planned, error: "takes longer than 1m0s", within: 70 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.small = 1 << 40
				s.cell = func(id directory.CellID, c mover.Cell) mover.Cell {
					if id == "a" {
						return slowly{c, tt.each}
					}
					return c
				}
				s.start(t, "m1")
				defer func() { s.stop(); <-s.ended }()
				began := time.Now()
				got := s.rehearse(t, directory.NewMove{Tenant: 1, Target: "b"})
				if got.Reaches != tt.reaches || !strings.HasSuffix(got.Error, tt.error) || got.Unsized == tt.each || time.Since(began) > tt.within {
					t.Errorf("got %+v after %v", got, time.Since(began))
				}
				copies := slices.IndexFunc(got.Steps, func(s mover.Step) bool {
					return s.Step == "pull" && strings.HasSuffix(s.Does, "rows that are not counted within 30s")
				})
				freezes := slices.IndexFunc(got.Steps, func(s mover.Step) bool { return s.Step == "freeze" })
				if !tt.each && (copies < 0 || freezes < copies) { // as a small one would be
					t.Errorf("got %+v", got.Steps)
				}
			})
		})
	}
}

// TestOneRehearsalFindsACellSilentForAll has a target whose process hangs: nobody finds that out anew, and a move
// is not kept from trying.
func TestOneRehearsalFindsACellSilentForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		back := time.Now().Add(time.Hour)
		s.cell = func(id directory.CellID, c mover.Cell) mover.Cell {
			if id == "b" {
				return silentCell{s.cells["b"], nil, &back}
			}
			return c
		}
		s.start(t, "m1")
		defer func() { s.stop(); <-s.ended }()
		began := time.Now()
		for range 20 {
			if got := s.rehearse(t, directory.NewMove{Tenant: 1, Target: "b"}); got.Reaches != directory.Planned || !strings.Contains(got.Error, "cell b does not answer") {
				t.Errorf("got %+v", got)
			}
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("20 rehearsals took %v", took)
		}
	})
}

// plenty is a cell that has not counted all rows, and wordy one that says more than there is room for.
type (
	plenty struct{ mover.Cell }
	wordy  struct{ mover.Cell }
)

func (c plenty) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	r, err := c.Cell.Preflight(ctx, m, measure)
	r.AtLeast = measure
	return r, err
}

func (wordy) Preflight(context.Context, transfer.Move, bool) (transfer.Report, error) {
	return transfer.Report{}, problem.New(problem.Internal, "%s", strings.Repeat("w", 60<<10))
}

// TestARehearsalSaysThatThereIsMore: where counting stopped is no size.
func TestARehearsalSaysThatThereIsMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.cell = func(_ directory.CellID, c mover.Cell) mover.Cell { return plenty{c} }
		s.start(t, "m1")
		defer func() { s.stop(); <-s.ended }()
		got := s.rehearse(t, directory.NewMove{Tenant: 1, Target: "b"})
		if !got.AtLeast || len(got.Steps) == 0 || !strings.Contains(got.Steps[0].Does, "the tenant has at least ") {
			t.Errorf("got %+v", got)
		}
	})
}

// TestALongErrorFitsTheRecord: it is a cell's, and there is no finding to drop.
func TestALongErrorFitsTheRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.cell = func(_ directory.CellID, c mover.Cell) mover.Cell { return wordy{c} }
		s.start(t, "m1")
		defer func() { s.stop(); <-s.ended }()
		if got := s.rehearse(t, directory.NewMove{Tenant: 1, Target: "b"}); got.Reaches != directory.Planned || len(got.Error) > 2<<10 {
			t.Errorf("got %s, an error of %d bytes", got.Reaches, len(got.Error))
		}
	})
}
