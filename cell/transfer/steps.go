package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// Steps are what a mover does to the fence of this cell. Each is conditional on
// the move and its base epoch, so what a mover that lost its lease says late
// changes nothing, and each may be repeated: it is an error only where the fence
// is not, and was not made, what the step makes of it. The error is then Conflict;
// Unavailable where the tenant's transactions did not end within the wait.
type Steps struct {
	pool *pgxpool.Pool
	cell directory.CellID
}

// NewSteps makes the steps of one cell.
func NewSteps(pool *pgxpool.Pool, cell directory.CellID) *Steps {
	return &Steps{pool: pool, cell: cell}
}

// A Move is what the steps have to know of a move.
type Move struct {
	ID     directory.MoveID   `json:"move"`
	Tenant directory.TenantID `json:"tenant"`
	Base   directory.Epoch    `json:"base_epoch"`
	Source directory.CellID   `json:"source"`
	Target directory.CellID   `json:"target"`
	Undoes directory.MoveID   `json:"undoes,omitempty"`
}

// undoes is NULL where the move is not an undo.
func (m Move) undoes() *string {
	if m.Undoes == "" {
		return nil
	}
	s := string(m.Undoes)
	return &s
}

// Fence is the tenant's fence here.
func (s *Steps) Fence(ctx context.Context, t directory.TenantID) (fence.Fence, error) {
	return fence.Get(ctx, s.pool, t)
}

// Reserve makes the fence of the target await the tenant at Base+1.
func (s *Steps) Reserve(ctx context.Context, m Move) error {
	return s.step(ctx, m, "reserve", fence.Incoming, m.Base+1, string(m.ID),
		`cell.reserve($1, $2, $3, $4)`, m.Tenant, m.Base, string(m.ID), m.undoes())
}

// Arm makes every later change of the tenant's rows at the source note its key.
func (s *Steps) Arm(ctx context.Context, m Move, wait time.Duration) error {
	return s.step(ctx, m, "arm", fence.Active, m.Base, string(m.ID),
		`cell.arm($1, $2, $3, $4)`, m.Tenant, m.Base, string(m.ID), wait.Milliseconds())
}

// Freeze begins the pause: when it returns nil, no transaction of the tenant is
// under way at the source and none will begin.
func (s *Steps) Freeze(ctx context.Context, m Move, wait time.Duration) error {
	return s.step(ctx, m, "freeze", fence.Frozen, m.Base+1, string(m.ID),
		`cell.freeze_move($1, $2, $3, $4)`, m.Tenant, m.Base, string(m.ID), wait.Milliseconds())
}

// Activate ends the pause: the target serves the tenant at Base+1. Only after the
// directory has decided. Where the target's database was promoted meanwhile, an operator may
// have made it serve by cell.accept, at that epoch and for no move. Where the tenant is
// deleted, which a directory may have lost, nobody is served, and the move ends.
func (s *Steps) Activate(ctx context.Context, m Move) error {
	return s.unlessDeleted(ctx, m, "activate", fence.Active, m.Base+1, "",
		`cell.activate_move($1, $2, $3)`, m.Tenant, m.Base+1, string(m.ID))
}

// Retire makes the source's fence a tombstone; its rows stay for the way back. One of a
// deletion is one already.
func (s *Steps) Retire(ctx context.Context, m Move) error {
	return s.unlessDeleted(ctx, m, "retire", fence.Moved, m.Base+1, string(m.ID),
		`cell.retire($1, $2, $3, $4)`, m.Tenant, m.Base+1, string(m.ID), string(m.Target))
}

// Release lets the source serve again, at Base+2, after the directory decided
// against the move. Where the tenant is deleted, which a directory may have lost, it
// serves nobody, and there is nothing to give back.
func (s *Steps) Release(ctx context.Context, m Move) error {
	return s.unlessDeleted(ctx, m, "release", fence.Active, m.Base+2, "",
		`cell.release($1, $2, $3, $4)`, m.Tenant, m.Base, string(m.ID), m.undoes())
}

// Discard makes the target of an aborted move forget it. Where the fence was
// never reserved there is nothing to do.
func (s *Steps) Discard(ctx context.Context, m Move) error {
	f, err := s.query(ctx, m.Tenant, "discard", `cell.discard($1, $2, $3, $4, $5)`,
		m.Tenant, m.Base+1, string(m.ID), m.undoes(), string(m.Source))
	if err != nil {
		return err
	}
	if f.State == fence.Incoming && f.Move == string(m.ID) {
		return conflict("discard", f)
	}
	return nil
}

// Disarm ends the watch at the owner: changes are noted no more.
func (s *Steps) Disarm(ctx context.Context, m Move, wait time.Duration) error {
	f, err := s.query(ctx, m.Tenant, "disarm", `cell.disarm($1, $2, $3, $4)`, m.Tenant, m.Base+1, string(m.ID), wait.Milliseconds())
	if err != nil {
		return err
	}
	if f.Capture && f.Move == string(m.ID) {
		return conflict("disarm", f)
	}
	return nil
}

// step runs one function of the fence and checks that its outcome is there. move
// "" does not care whose it is.
func (s *Steps) step(ctx context.Context, m Move, verb string, want fence.State, at directory.Epoch, move, call string, args ...any) error {
	f, err := s.query(ctx, m.Tenant, verb, call, args...)
	if err != nil {
		return err
	}
	return is(verb, f, want, at, move)
}

// unlessDeleted is step where nothing is wanted of a fence that says deleted.
func (s *Steps) unlessDeleted(ctx context.Context, m Move, verb string, want fence.State, at directory.Epoch, move, call string, args ...any) error {
	f, err := s.query(ctx, m.Tenant, verb, call, args...)
	if err != nil || f.State == fence.Deleted {
		return err
	}
	return is(verb, f, want, at, move)
}

// is is the conflict of a fence that a step did not make what it wants.
func is(verb string, f fence.Fence, want fence.State, at directory.Epoch, move string) error {
	if f.State != want || f.Epoch != at || (move != "" && f.Move != move) {
		return conflict(verb, f)
	}
	return nil
}

func (s *Steps) query(ctx context.Context, t directory.TenantID, verb, call string, args ...any) (fence.Fence, error) {
	f := fence.Fence{Tenant: t, State: fence.Absent}
	err := s.pool.QueryRow(ctx, `SELECT epoch, state, capture, coalesce(move_id, ''), coalesce(moved_to, '') FROM `+call, args...).
		Scan(&f.Epoch, &f.State, &f.Capture, &f.Move, &f.MovedTo)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return f, nil
	case pg.Code(err) == pg.LockNotAvailable:
		return f, problem.Wrap(problem.Unavailable, err, fmt.Sprintf("%s tenant %d: its transactions did not end in time", verb, t)).
			With("step", busy)
	case err != nil:
		return f, fmt.Errorf("%s tenant %d: %w", verb, t, err)
	}
	return f, nil
}

// busy is the member step of the problem of a step that was not done because the
// tenant's transactions did not end in time.
const busy = "busy"

// IsBusy reports whether err is a cell's word that a step was not done because the
// tenant's transactions did not end in time, also on the far side of an HTTP hop.
func IsBusy(err error) bool {
	p, ok := errors.AsType[*problem.Error](err)
	return ok && p.Extra["step"] == busy
}

func conflict(verb string, f fence.Fence) error {
	return problem.New(problem.Conflict, "%s tenant %d: its fence is %s at epoch %d, move %q", verb, f.Tenant, f.State, f.Epoch, f.Move).
		With("state", string(f.State)).With("epoch", fmt.Sprint(f.Epoch)).With("move", f.Move)
}
