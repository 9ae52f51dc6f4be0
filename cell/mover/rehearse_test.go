package mover_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
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
	v := mover.New(settings(id), s.dir, s.open, slog.New(slog.DiscardHandler))
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

// TestARehearsalTellsWhatTheMoveDoes makes each move that was rehearsed, and its undo: its cells
// are asked just what the rehearsal told.
func TestARehearsalTellsWhatTheMoveDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
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
	})
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
