package chaos

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// What is asked of the directory's own database is what has to be known within a
// millisecond, or while the directory itself is dead.
const (
	moveColumns = `SELECT id, source, target, phase, holder, lease, wish, error FROM directory.moves WHERE tenant = $1 `
	newestMove  = moveColumns + `ORDER BY created_at DESC, id DESC LIMIT 1`
	namedMove   = moveColumns + `AND id = $2`
	watchedMove = moveColumns + `AND phase = 'watching'`
	movesOpen   = `
		SELECT EXISTS (SELECT FROM directory.moves
		                WHERE tenant = $1
		                  AND (phase NOT IN ('watching', 'completed', 'aborted', 'undone') OR phase = 'watching' AND wish = 'complete'))`
)

// newest is a tenant's newest move; the zero Move where it has none.
func (r *run) newest(ctx context.Context, t directory.TenantID) (directory.Move, error) {
	return r.move(ctx, newestMove, t)
}

// watching is the move whose way back is open; the zero Move where there is none.
func (r *run) watching(ctx context.Context, t directory.TenantID) (directory.Move, error) {
	return r.move(ctx, watchedMove, t)
}

func (r *run) move(ctx context.Context, sql string, t directory.TenantID, args ...any) (directory.Move, error) {
	var m directory.Move
	err := r.record.QueryRow(ctx, sql, append([]any{int64(t)}, args...)...).Scan(&m.ID, &m.Source, &m.Target, &m.Phase, &m.Holder, &m.Lease, &m.Wish, &m.Error)
	if errors.Is(err, pgx.ErrNoRows) {
		return directory.Move{}, nil
	}
	return m, err
}

// underWay reports whether a move of the tenant has work to do.
func (r *run) underWay(ctx context.Context, t directory.TenantID) (open bool, err error) {
	err = r.record.QueryRow(ctx, movesOpen, int64(t)).Scan(&open)
	return open, err
}

// owner is the tenant's placement, as the directory tells it.
func (r *run) owner(ctx context.Context, t directory.TenantID) (directory.Placement, error) {
	var out directory.Tenant
	err := r.console.Call(ctx, http.MethodGet, tenantPath(t), nil, &out)
	return out.Placement, err
}

// patience is how long a fault waits for its phase. What another fault of the
// round has stopped runs again by itself, on a busy machine after some seconds.
const patience = 20 * time.Second

// follow looks at the newest moves of the tenants that move, for everybody who
// waits for one.
func (r *run) follow(ctx context.Context) {
	for loadtest.Pause(ctx, time.Millisecond) {
		r.mu.Lock()
		movers := r.movers
		r.mu.Unlock()
		for _, t := range movers {
			if m, err := r.newest(ctx, t.ID); err == nil {
				r.mu.Lock()
				if before := r.seen[t.ID]; switched(m.Phase) && (before.ID != m.ID || !switched(before.Phase)) {
					r.switched[t.ID] = time.Now()
				}
				r.seen[t.ID] = m
				r.mu.Unlock()
			}
		}
	}
}

// at waits until the errand's move has come to the phase, or passed it, and gives
// the move as it is then; where that does not happen, as it was seen last.
func (r *run) at(ctx context.Context, e *errand, p directory.Phase) directory.Move {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		r.mu.Lock()
		m := r.seen[e.tenant.ID]
		r.mu.Unlock()
		if e.isOn(m) && (p == anyMoment || passed(m.Phase, p)) || !loadtest.Pause(ctx, 500*time.Microsecond) {
			return m
		}
	}
}

// isOn reports whether m is of this errand and not of the round before.
func (e *errand) isOn(m directory.Move) bool {
	if e.verb != "complete" {
		return m.ID != e.before
	}
	select {
	case <-e.begun:
		return true
	default:
		return false
	}
}

// passed reports whether a move in phase at has come to p or will not come to it.
func passed(at, p directory.Phase) bool {
	if p == directory.Aborting {
		return !at.BeforeDecision() // it is there, or the cancel came too late
	}
	order := phases()
	i, j := slices.Index(order, at), slices.Index(order, p)
	return i < 0 || i >= j // one that is not among them has ended
}

// switched reports whether a move in phase at has given its tenant to the target.
func switched(at directory.Phase) bool {
	return slices.Contains([]directory.Phase{directory.Activated, directory.Watching, directory.Completed, directory.Undone}, at)
}
