package cell_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

// flaky fails as often as it is told to, then asks the directory behind it.
type flaky struct {
	directory.Cells
	failures atomic.Int64
	beats    chan struct{}
}

func (f *flaky) AddCell(ctx context.Context, c directory.Cell) (directory.Cell, error) {
	if f.failures.Add(-1) >= 0 {
		return c, problem.New(problem.Unavailable, "not now")
	}
	return f.Cells.AddCell(ctx, c)
}

func (f *flaky) Heartbeat(ctx context.Context, id directory.CellID, incarnation string) error {
	err := f.Cells.Heartbeat(ctx, id, incarnation)
	select {
	case f.beats <- struct{}{}:
	default:
	}
	return err
}

var self = directory.Cell{ID: cellID, Address: "http://127.0.0.1:7100", Capacity: 10, Incarnation: "i1"}

func TestACellRegistersAgainstAllOddsAndSaysThatItLives(t *testing.T) {
	t.Parallel()
	dir := &flaky{Cells: directorytest.NewMemory(), beats: make(chan struct{})}
	dir.failures.Store(2)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	done := make(chan error)
	go func() { done <- cell.Announce(ctx, dir, self, slog.New(slog.DiscardHandler)) }()
	select {
	case <-dir.beats:
	case <-ctx.Done():
		t.Error("no heartbeat")
	}
	if c, err := dir.Cell(ctx, cellID); err != nil || !c.Healthy {
		t.Errorf("cell: got %+v, %v", c, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("after the stop: got %v, want nil", err)
	}
}

func TestAnotherDatabaseMayNotTakeTheCellsName(t *testing.T) {
	t.Parallel()
	dir := directorytest.NewMemory()
	if _, err := dir.AddCell(t.Context(), self); err != nil {
		t.Fatal(err)
	}
	other := self
	other.Incarnation = "i2"
	err := cell.Announce(t.Context(), dir, other, slog.New(slog.DiscardHandler))
	if !errors.Is(err, problem.Conflict) {
		t.Errorf("got %v, want %v", err, problem.Conflict)
	}
}

// late is a membership that is not there at first.
type late struct {
	directory.Membership
	failures atomic.Int64
	joined   chan directory.Cell
}

func (l *late) Join(_ context.Context, c directory.Cell) error {
	if l.failures.Add(-1) >= 0 {
		return problem.New(problem.Unavailable, "not now")
	}
	l.joined <- c
	return nil
}

func TestACellJoinsAMembershipThatComesLate(t *testing.T) {
	t.Parallel()
	m := &late{joined: make(chan directory.Cell, 1)}
	m.failures.Store(2)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- cell.Join(ctx, m, self, slog.New(slog.DiscardHandler)) }()
	if got := <-m.joined; got != self {
		t.Errorf("joined: got %+v, want %+v", got, self)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("after the stop: got %v, want nil", err)
	}
}

// swappedCells is the directory where the pointer leads now.
type swappedCells struct {
	at atomic.Pointer[directorytest.Memory]
}

func (s *swappedCells) AddCell(ctx context.Context, c directory.Cell) (directory.Cell, error) {
	return s.at.Load().AddCell(ctx, c)
}

func (s *swappedCells) Heartbeat(ctx context.Context, id directory.CellID, incarnation string) error {
	return s.at.Load().Heartbeat(ctx, id, incarnation)
}

// The record is restored to before the cell got its address of now.
func TestACellTellsARestoredRecordWhereItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := self
		old.Address = "http://127.0.0.1:1"
		restored, dir := directorytest.NewMemory(), &swappedCells{}
		if _, err := restored.AddCell(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		restored.Restored()
		dir.at.Store(directorytest.NewMemory())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- cell.Announce(ctx, dir, self, slog.New(slog.DiscardHandler)) }()
		time.Sleep(10 * time.Second)
		dir.at.Store(restored)
		time.Sleep(10 * time.Second)
		c, err := restored.Cell(t.Context(), self.ID)
		if err != nil || !c.Healthy || c.Address != self.Address {
			t.Errorf("ten seconds after the restore: healthy %v at %s, %v, want it at %s", c.Healthy, c.Address, err, self.Address)
		}
		cancel()
		<-done
	})
}

// A cell was known by name before it ran, and the record is restored to that moment.
func TestARestoredRecordEndsNoCell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		byHand := self
		byHand.Incarnation = ""
		restored, dir := directorytest.NewMemory(), &swappedCells{}
		if _, err := restored.AddCell(t.Context(), byHand); err != nil {
			t.Fatal(err)
		}
		dir.at.Store(directorytest.NewMemory())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- cell.Announce(ctx, dir, self, slog.New(slog.DiscardHandler)) }()
		time.Sleep(10 * time.Second)
		dir.at.Store(restored)
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the cell's process ends: %v", err)
		}
	})
}
