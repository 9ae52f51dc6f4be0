package directorytest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

var _ directory.Moves = (*Memory)(nil)

// CreateMove implements directory.Moves.
func (m *Memory) CreateMove(ctx context.Context, n directory.NewMove) (directory.Move, error) {
	if err := n.Validate(); err != nil {
		return directory.Move{}, err
	}
	if err := m.lock(ctx); err != nil {
		return directory.Move{}, err
	}
	defer m.mu.Unlock()
	r, ok := m.tenants[n.Tenant]
	if !ok {
		return directory.Move{}, noTenant(n.Tenant)
	}
	if _, ok := m.cells[n.Target]; !ok {
		return directory.Move{}, noCell(n.Target)
	}
	made, err := n.Begin(m.nextMove(), r.Tenant, m.cell(n.Target), m.open(n.Tenant), m.coming(n.Target), m.kin(r.Tenant, n.Target), m.Now().UTC())
	if err != nil {
		return directory.Move{}, err
	}
	if n.DryRun {
		made.ID = ""
		if made.Rehearsal, err = m.insertRehearsal(made); err != nil {
			return directory.Move{}, err
		}
		return made, nil
	}
	m.insert(ctx, made)
	return made, nil
}

// Move implements directory.Moves.
func (m *Memory) Move(ctx context.Context, id directory.MoveID) (directory.Move, error) {
	if err := m.lock(ctx); err != nil {
		return directory.Move{}, err
	}
	defer m.mu.Unlock()
	v := m.move(id)
	if v == nil {
		return directory.Move{}, noMove(id)
	}
	return own(*v), nil
}

// ListMoves implements directory.Moves.
func (m *Memory) ListMoves(ctx context.Context, tenant directory.TenantID, ended bool, before directory.MoveID, limit int) ([]directory.Move, error) {
	if err := directory.CheckLimit(limit); err != nil {
		return nil, err
	}
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	list := m.find(func(v directory.Move) bool {
		return (tenant == 0 || tenant == v.Tenant) && (ended || !v.Phase.Ended()) && (before == "" || v.ID < before)
	})
	slices.Reverse(list)
	return list[:min(limit, len(list))], nil
}

// AskMove implements directory.Moves.
func (m *Memory) AskMove(ctx context.Context, id directory.MoveID, w directory.Wish) (directory.Move, error) {
	if err := m.lock(ctx); err != nil {
		return directory.Move{}, err
	}
	defer m.mu.Unlock()
	v := m.move(id)
	if v == nil {
		return directory.Move{}, noMove(id)
	}
	now := m.Now().UTC()
	next, err := v.Ask(w, now)
	if err == nil && w == directory.Switch && next.Wish != v.Wish {
		err = v.MaySwitch(m.tenants[v.Tenant].Tenant, m.cell(v.Target))
	}
	if err != nil {
		return directory.Move{}, err
	}
	if next.Wish != v.Wish || !next.WatchEnds.Equal(v.WatchEnds) {
		next.Changed = now
		m.note(ctx, "move.wish", directory.MoveSubject(id), *v, next)
		*v = next
	}
	return own(*v), nil
}

// LeaseMove implements directory.Moves.
func (m *Memory) LeaseMove(ctx context.Context, id directory.MoveID, holder string, ttl time.Duration) (directory.Move, error) {
	if err := directory.CheckLease(id, holder, ttl); err != nil {
		return directory.Move{}, err
	}
	if err := m.lock(ctx); err != nil {
		return directory.Move{}, err
	}
	defer m.mu.Unlock()
	now := m.Now().UTC()
	var v *directory.Move // the oldest of the first turn
	anyOne := id == "" || id == directory.InPause
	for i := range m.moves {
		o := &m.moves[i]
		free, its := !now.Before(o.Leased), o.Holder == holder
		ok := id == o.ID && !o.Phase.Ended() && (free || its)
		switch {
		case anyOne:
			ok = free && !o.Phase.Ended() && !o.Waits(now) && (id == "" || o.Turn() == 0)
		case ttl == 0:
			ok = id == o.ID && its
		}
		if ok && (v == nil || o.Turn() < v.Turn()) {
			v = o
		}
	}
	if v == nil {
		return directory.Move{}, problem.New(problem.NotFound, "no move %q is free", id)
	}
	if ttl == 0 {
		v.Holder, v.Leased = "", time.Time{}
		return own(*v), nil
	}
	if anyOne || v.Holder != holder {
		v.Lease++
	}
	v.Holder, v.Leased = holder, now.Add(ttl)
	return own(*v), nil
}

// RestMove implements directory.Moves.
func (m *Memory) RestMove(ctx context.Context, said directory.Move, d time.Duration) error {
	if err := directory.CheckLease(said.ID, "a mover", d); err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	v := m.move(said.ID)
	if v == nil {
		return noMove(said.ID)
	}
	next, err := v.Rest(said, d, m.Now().UTC())
	if err == nil {
		*v = next
	}
	return err
}

// Advance implements directory.Moves.
func (m *Memory) Advance(ctx context.Context, said directory.Move, from directory.Phase) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	v := m.move(said.ID)
	if v == nil {
		return noMove(said.ID)
	}
	next, news, err := v.Advanced(own(said), from, m.Now().UTC())
	if err != nil || !news {
		return err
	}
	if next.Phase == v.Phase {
		*v = next
		return nil
	}
	if err := m.reach(ctx, v, next); err != nil {
		return err
	}
	m.follow(ctx, next)
	m.retry(ctx, next)
	return nil
}

// reach writes a phase, and the placement that belongs to it.
func (m *Memory) reach(ctx context.Context, v *directory.Move, next directory.Move) error {
	if err := v.MayReach(next.Phase, m.tenants[next.Tenant].Tenant, m.cell(next.Target)); err != nil {
		return err
	}
	if p, gives := next.Gives(); gives {
		r := m.tenants[next.Tenant]
		if err := next.Owns(r.Placement); err != nil {
			return err
		}
		if err := m.cells[p.Cell].MayOwn(); err != nil {
			return err
		}
		m.place(ctx, r, p)
	}
	m.note(ctx, "move.advance", directory.MoveSubject(next.ID), *v, next)
	*v = next
	return nil
}

// retry makes the move that tries an aborted one again.
func (m *Memory) retry(ctx context.Context, aborted directory.Move) {
	id, now := m.nextMove(), m.Now().UTC()
	t, to := m.tenants[aborted.Tenant].Tenant, aborted.Target
	next, again := aborted.Retry(id, t, m.cell(to), m.open(t.ID), m.coming(to), m.kin(t, to), now)
	if !again {
		return
	}
	m.move(aborted.ID).RetriedBy = id
	m.insert(ctx, next)
}

func (m *Memory) nextMove() directory.MoveID {
	return directory.MoveID(fmt.Sprintf("mv_%012d", len(m.moves)+1))
}

// coming is how many tenants are on their way to a cell.
func (m *Memory) coming(to directory.CellID) int {
	return len(m.find(func(v directory.Move) bool { return v.Target == to && v.Phase.BeforeDecision() }))
}

// kin reports whether another tenant of t's group is on a cell or on its way there.
func (m *Memory) kin(t directory.Tenant, to directory.CellID) bool {
	return t.Group != "" && slices.Contains(m.ofGroup(t.Group, t.ID), to)
}

func (m *Memory) insert(ctx context.Context, made directory.Move) {
	m.moves = append(m.moves, made)
	if made.Undoes != "" {
		m.move(made.Undoes).UndoneBy = made.ID
	}
	m.note(ctx, "move.create", directory.MoveSubject(made.ID), nil, made)
}

// follow tells the move that next undoes.
func (m *Memory) follow(ctx context.Context, next directory.Move) {
	undone := m.move(next.Undoes)
	if undone == nil {
		return
	}
	after, follows := next.Follow(*undone)
	if !follows {
		return
	}
	if after.Phase != undone.Phase {
		m.note(ctx, "move.advance", directory.MoveSubject(undone.ID), *undone, after)
	}
	*undone = after
}

// move is the record of a move, nil where there is none.
func (m *Memory) move(id directory.MoveID) *directory.Move {
	i := slices.IndexFunc(m.moves, func(v directory.Move) bool { return v.ID == id })
	if i < 0 {
		return nil
	}
	return &m.moves[i]
}

// find is a copy of the moves that match, oldest first.
func (m *Memory) find(match func(directory.Move) bool) []directory.Move {
	found := []directory.Move{}
	for _, v := range m.moves {
		if match(v) {
			found = append(found, own(v))
		}
	}
	return found
}

// open is a tenant's moves that have not ended; 0 is every tenant's.
func (m *Memory) open(tenant directory.TenantID) []directory.Move {
	return m.find(func(v directory.Move) bool { return (tenant == 0 || tenant == v.Tenant) && !v.Phase.Ended() })
}

// own shares no memory with v.
func own(v directory.Move) directory.Move {
	v.Report = bytes.Clone(v.Report)
	return v
}

func noMove(id directory.MoveID) error { return problem.New(problem.NotFound, "no move %q", id) }
