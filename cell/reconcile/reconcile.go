package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// Sizes of pages: of the directory's lists, and of fences.
const (
	listPage  = 1000
	fencePage = 10_000
)

// A survey is all that a reconciliation goes by. It does not change any more once
// the moves are aborted: none is decided without this cell, and it answers no mover.
type survey struct {
	known  directory.TenantID
	placed map[directory.TenantID]directory.Placement // here
	moving map[directory.TenantID]bool                // moves that have not ended name this cell
	fences map[directory.TenantID]found
}

// reconcile brings every fence in line with the directory, in one transaction that
// also makes the database serve. All of it is done in one session: the server may be
// replaced meanwhile, and what is surveyed in one must not be written into another.
func (a *Agent) reconcile(ctx context.Context, db pg.DB, witness int64) error {
	c, err := a.condition(ctx, db)
	switch {
	case err != nil:
		return err
	case c.Serves:
		return nil // another process was quicker
	case c.Standby: // a session outlives a promotion, and its survey would be of before
		return errors.New("the database is a standby")
	}
	self := a.Store.Cell()
	a.Log.WarnContext(ctx, "the database lacks what was committed, or was never compared: it is reconciled with the directory",
		"same_server", c.Continues, "has", c.Beat, "witness", witness)
	did, err := a.Directory.AbortMoves(ctx, self, c.Incarnation, fmt.Sprintf("the database of cell %s was promoted or restored", self))
	if err != nil {
		return fmt.Errorf("abort the cell's moves: %w", err)
	}
	s := survey{known: did.Known}
	for _, look := range []func(context.Context, *survey) error{a.placements, a.moves} {
		if err := look(ctx, &s); err != nil {
			return err
		}
	}
	if err := a.fences(ctx, db, &s); err != nil {
		return err
	}
	rows, err := a.judgeAll(ctx, s)
	if err != nil {
		return err
	}
	if err := a.write(ctx, db, witness, s.known, rows); err != nil {
		return err
	}
	a.m.reconciled.Inc()
	a.Log.WarnContext(ctx, "the database is reconciled with the directory", "aborted_moves", did.Moves, "fences_changed", len(rows))
	return nil
}

func (a *Agent) placements(ctx context.Context, s *survey) error {
	s.placed = map[directory.TenantID]directory.Placement{}
	for after := directory.TenantID(0); ; {
		list, err := a.Directory.ListTenants(ctx, directory.TenantFilter{Cell: a.Store.Cell()}, after, listPage)
		if err != nil {
			return fmt.Errorf("list the cell's tenants: %w", err)
		}
		for _, t := range list {
			s.placed[t.ID], after = t.Placement, t.ID
		}
		if len(list) < listPage {
			return nil
		}
	}
}

func (a *Agent) moves(ctx context.Context, s *survey) error {
	s.moving = map[directory.TenantID]bool{}
	for before := directory.MoveID(""); ; {
		list, err := a.Directory.ListMoves(ctx, 0, false, before, listPage)
		if err != nil {
			return fmt.Errorf("list the open moves: %w", err)
		}
		for _, m := range list {
			before = m.ID
			if m.Source == a.Store.Cell() || m.Target == a.Store.Cell() {
				s.moving[m.Tenant] = true
			}
		}
		if len(list) < listPage {
			return nil
		}
	}
}

func (a *Agent) fences(ctx context.Context, db pg.DB, s *survey) error {
	s.fences = map[directory.TenantID]found{}
	for after := directory.TenantID(0); ; {
		list, err := fencesAfter(ctx, db, after)
		if err != nil {
			return fmt.Errorf("read the fences: %w", err)
		}
		for _, f := range list {
			s.fences[f.Tenant], after = f, f.Tenant
		}
		if len(list) < fencePage {
			return nil
		}
	}
}

func fencesAfter(ctx context.Context, db pg.DB, after directory.TenantID) ([]found, error) {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	const page = `SELECT tenant_id, epoch, state, capture, move_id, moved_to, landed FROM cell.fences($1, $2)`
	rows, err := db.Query(ctx, page, after, fencePage)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (f found, err error) {
		err = r.Scan(&f.Tenant, &f.Epoch, &f.State, &f.Capture, &f.Move, &f.MovedTo, &f.landed)
		return f, err
	})
}

// judgeAll is the rows that change, by tenant.
func (a *Agent) judgeAll(ctx context.Context, s survey) ([]row, error) {
	tenants := map[directory.TenantID]bool{}
	for t := range s.placed {
		tenants[t] = true
	}
	for t := range s.fences {
		tenants[t] = true
	}
	maps.Copy(tenants, s.moving)
	var rows []row
	for _, t := range slices.Sorted(maps.Keys(tenants)) {
		r, changed, err := a.judge(ctx, s, t)
		if err != nil {
			return nil, err
		}
		if changed {
			rows = append(rows, r)
		}
		if r.State == fence.Suspect {
			a.Log.WarnContext(ctx, "the database lacks the tenant as the directory has it: nobody is served until an operator accepts what is here",
				"tenant", t, "epoch", r.Epoch)
		}
	}
	return rows, nil
}

func (a *Agent) judge(ctx context.Context, s survey, t directory.TenantID) (row, bool, error) {
	f, ok := s.fences[t]
	if !ok {
		f = found{Fence: fence.Fence{Tenant: t, State: fence.Absent}}
	}
	if f.State == fence.Deleted || f.State == fence.Moved && !s.moving[t] && s.placed[t].Cell == "" {
		return row{Fence: f.Fence}, false, nil // a tombstone that stays one, wherever the tenant is by now
	}
	p, err := a.placement(ctx, s, t)
	if errors.Is(err, problem.NotFound) {
		r := row{Fence: f.Fence} // the directory has forgotten it: nobody knows who may serve it
		r.State, r.Capture = fence.Suspect, false
		return r, r.Fence != f.Fence, nil
	}
	if err != nil {
		return row{}, false, fmt.Errorf("find tenant %d: %w", t, err)
	}
	var moves []directory.Move
	if !f.clear(a.Store.Cell(), p, s.moving[t]) {
		if moves, err = a.history(ctx, t); err != nil {
			return row{}, false, err
		}
	}
	r, changed := judge(a.Store.Cell(), f, p, moves)
	return r, changed, nil
}

func (a *Agent) placement(ctx context.Context, s survey, t directory.TenantID) (directory.Placement, error) {
	if p, ok := s.placed[t]; ok {
		return p, nil
	}
	tenant, err := a.Directory.Tenant(ctx, t.String())
	return tenant.Placement, err
}

// history is all moves of a tenant, the newest first.
func (a *Agent) history(ctx context.Context, t directory.TenantID) ([]directory.Move, error) {
	var all []directory.Move
	for before := directory.MoveID(""); ; {
		list, err := a.Directory.ListMoves(ctx, t, true, before, listPage)
		if err != nil {
			return nil, fmt.Errorf("list the moves of tenant %d: %w", t, err)
		}
		all = append(all, list...)
		if len(list) < listPage {
			return all, nil
		}
		before = list[len(list)-1].ID
	}
}

// write ends the reconciliation.
func (a *Agent) write(ctx context.Context, db pg.DB, witness int64, known directory.TenantID, rows []row) error {
	var (
		tenants, epochs            []int64
		states, moves, cells, void []string
		captures                   []bool
	)
	for _, r := range rows {
		tenants, epochs = append(tenants, int64(r.Tenant)), append(epochs, int64(r.Epoch))
		states, moves, cells = append(states, string(r.State)), append(moves, r.Move), append(cells, string(r.MovedTo))
		captures, void = append(captures, r.Capture), append(void, string(r.void))
	}
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	_, err := db.Exec(ctx, `SELECT cell.reconcile($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		witness, known, tenants, epochs, states, captures, moves, cells, void)
	if err != nil {
		return fmt.Errorf("write the fences: %w", err)
	}
	return nil
}
