package mover_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// heard is a cell that keeps what is asked of it, in the order of asking.
type heard struct {
	mover.Cell
	at  directory.CellID
	mu  *sync.Mutex
	all *[]string
}

func (h heard) hear(step string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*h.all = append(*h.all, step+" "+string(h.at))
}

func (h heard) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	h.hear("preflight")
	return h.Cell.Preflight(ctx, m, measure)
}

func (h heard) Reserve(ctx context.Context, m transfer.Move) error {
	h.hear("reserve")
	return h.Cell.Reserve(ctx, m)
}

func (h heard) Arm(ctx context.Context, m transfer.Move, wait time.Duration) error {
	h.hear("arm")
	return h.Cell.Arm(ctx, m, wait)
}

func (h heard) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	got, err := h.Cell.Pull(ctx, m, url, final)
	h.hear("pull")
	return got, err
}

func (h heard) Verify(ctx context.Context, m transfer.Move) ([]transfer.Finding, error) {
	h.hear("verify")
	return h.Cell.Verify(ctx, m)
}

func (h heard) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	h.hear("freeze")
	return h.Cell.Freeze(ctx, m, wait)
}

func (h heard) Activate(ctx context.Context, m transfer.Move) error {
	h.hear("activate")
	return h.Cell.Activate(ctx, m)
}

func (h heard) Retire(ctx context.Context, m transfer.Move) error {
	h.hear("retire")
	return h.Cell.Retire(ctx, m)
}

func (h heard) Release(ctx context.Context, m transfer.Move) error {
	h.hear("release")
	return h.Cell.Release(ctx, m)
}

func (h heard) Forget(ctx context.Context, m transfer.Move) error {
	h.hear("forget")
	return h.Cell.Forget(ctx, m)
}

func (h heard) Discard(ctx context.Context, m transfer.Move) error {
	h.hear("discard")
	return h.Cell.Discard(ctx, m)
}

func (h heard) Purge(ctx context.Context, m transfer.Move) (int64, error) {
	h.hear("purge")
	return h.Cell.Purge(ctx, m)
}

// stage is a world, its directory with the tenant acme on a, and a mover.
type stage struct {
	*world
	dir   *directorytest.Memory
	heard []string
	mu    sync.Mutex
	cell  func(directory.CellID, mover.Cell) mover.Cell // what the mover gets for a cell; nil is the cell
	small int64                                         // of the mover's limits
	stop  context.CancelFunc
	ended chan struct{}
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{world: newWorld(func() fault { return none }), dir: directorytest.NewMemory()}
	for _, id := range []directory.CellID{"a", "b"} {
		if _, err := s.dir.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 10, Incarnation: "db"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.dir.CreateTenant(t.Context(), directory.NewTenant{Slug: "acme", Cell: "a"}); err != nil {
		t.Fatal(err)
	}
	return s
}

// open is what the mover gets for a cell.
func (s *stage) open(c directory.Cell) mover.Cell {
	at := mover.Cell(s.cells[c.ID])
	if s.cell != nil {
		at = s.cell(c.ID, at)
	}
	return heard{at, c.ID, &s.mu, &s.heard}
}

// start runs a mover until the stage's stop.
func (s *stage) start(t *testing.T, id string) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	s.stop, s.ended = cancel, ended
	cfg := settings(id)
	cfg.Limits.SmallBytes = s.small
	v := mover.New(cfg, s.dir, s.open, slog.New(slog.DiscardHandler))
	go func() { defer close(ended); _ = v.Run(ctx) }()
}

// rehearse asks for a dry run, waits for what is found and checks that nothing else has happened.
func (s *stage) rehearse(t *testing.T, n directory.NewMove) (got mover.Rehearsed) {
	t.Helper()
	before, moves := s.state(t), len(s.moves(t))
	n.DryRun = true
	m, err := s.dir.CreateMove(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	for range 6000 { // ten minutes
		r, err := s.dir.Rehearsal(t.Context(), m.Rehearsal)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Ended.IsZero() {
			if err := json.Unmarshal(r.Report, &got); err != nil {
				t.Fatal(err)
			}
			if after := s.state(t); after != before || len(s.moves(t)) != moves {
				t.Errorf("a rehearsal has changed something: got %s, want %s", after, before)
			}
			return got
		}
		time.Sleep(100 * time.Millisecond) // virtual
	}
	t.Fatal("the rehearsal does not end")
	return got
}

func (s *stage) moves(t *testing.T) []directory.Move {
	moves, err := s.dir.ListMoves(t.Context(), 0, true, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	return moves
}

// state is where the tenant is, by its record and by both fences.
func (s *stage) state(t *testing.T) string {
	a, err := s.dir.Tenant(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	return fmt.Sprintf("%+v %+v %+v %v", a.Placement, s.cells["a"].fence, s.cells["b"].fence, s.cells["b"].received)
}

// asked are the steps in which cells have a part, as heard tells them.
func asked(r mover.Rehearsed) (all []string) {
	for _, s := range r.Steps {
		if s.Cell != "" {
			all = append(all, s.Step+" "+string(s.Cell))
		}
	}
	return all
}
