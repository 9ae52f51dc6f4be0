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

var _ directory.Rehearsals = (*Memory)(nil)

func (m *Memory) insertRehearsal(made directory.Move) (directory.RehearsalID, error) {
	open, now := 0, m.Now().UTC()
	for _, r := range m.tried {
		if r.Ended.IsZero() && now.Sub(r.Created) < directory.RehearsalTTL {
			open++
		}
	}
	if err := directory.CheckRehearsals(open); err != nil {
		return "", err
	}
	id := directory.RehearsalID(fmt.Sprintf("%s%012d", directory.RehearsalIDs, len(m.tried)+1))
	m.tried = append(m.tried, directory.Rehearsal{ID: id, Move: made, Created: now})
	return id, nil
}

// Rehearsal implements directory.Rehearsals.
func (m *Memory) Rehearsal(ctx context.Context, id directory.RehearsalID) (directory.Rehearsal, error) {
	if err := m.lock(ctx); err != nil {
		return directory.Rehearsal{}, err
	}
	defer m.mu.Unlock()
	i := m.rehearsal(id)
	if i < 0 {
		return directory.Rehearsal{}, problem.New(problem.NotFound, "no rehearsal %q", id)
	}
	r := m.tried[i]
	if r.Ended.IsZero() {
		for _, other := range m.tried {
			if other.Ended.IsZero() && m.Now().Before(other.Leased) {
				r.Busy++
			}
		}
	}
	return r, nil
}

// LeaseRehearsal implements directory.Rehearsals.
func (m *Memory) LeaseRehearsal(ctx context.Context, id directory.RehearsalID, holder string, ttl time.Duration) (directory.Rehearsal, error) {
	if err := directory.CheckLease("", holder, ttl); err != nil {
		return directory.Rehearsal{}, err
	}
	if err := m.lock(ctx); err != nil {
		return directory.Rehearsal{}, err
	}
	defer m.mu.Unlock()
	now := m.Now().UTC()
	i := slices.IndexFunc(m.tried, func(r directory.Rehearsal) bool {
		free := !now.Before(r.Leased)
		if id == "" {
			return r.Ended.IsZero() && free && now.Sub(r.Created) < directory.RehearsalTTL
		}
		return r.ID == id && r.Ended.IsZero() && (free || r.Holder == holder)
	})
	if i < 0 {
		return directory.Rehearsal{}, problem.New(problem.NotFound, "no rehearsal %q is free", id)
	}
	r := &m.tried[i]
	if id == "" || r.Holder != holder {
		r.Lease++
	}
	r.Holder, r.Leased = holder, now.Add(ttl)
	return *r, nil
}

// EndRehearsal implements directory.Rehearsals.
func (m *Memory) EndRehearsal(ctx context.Context, said directory.Rehearsal) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	i := m.rehearsal(said.ID)
	if i < 0 {
		return problem.New(problem.NotFound, "no rehearsal %q", said.ID)
	}
	next, _, err := m.tried[i].End(said, m.Now().UTC())
	if err != nil {
		return err
	}
	next.Report = bytes.Clone(next.Report)
	m.tried[i] = next
	return nil
}

func (m *Memory) rehearsal(id directory.RehearsalID) int {
	return slices.IndexFunc(m.tried, func(r directory.Rehearsal) bool { return r.ID == id })
}
