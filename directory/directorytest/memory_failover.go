package directorytest

import (
	"context"

	"github.com/cellway/cellway/directory"
)

// Witness implements directory.Failover.
func (m *Memory) Witness(ctx context.Context, id directory.CellID, incarnation string, number int64, tenant directory.TenantID) (w directory.Witnessed, err error) {
	if err := m.lock(ctx); err != nil {
		return w, err
	}
	defer m.mu.Unlock()
	if err := m.isIncarnation(id, incarnation); err != nil {
		return w, err
	}
	w, m.lastID = directory.RaisedBy(tenant, m.lastID, m.known())
	m.told[id] = max(m.told[id], number)
	w.Number = m.told[id]
	return w, nil
}

// AbortMoves implements directory.Failover.
func (m *Memory) AbortMoves(ctx context.Context, id directory.CellID, incarnation, why string) (directory.Recovery, error) {
	var did directory.Recovery
	if err := m.lock(ctx); err != nil {
		return did, err
	}
	defer m.mu.Unlock()
	if err := m.isIncarnation(id, incarnation); err != nil {
		return did, err
	}
	for i := range m.moves {
		v := &m.moves[i]
		next, aborts := v.Abort(why, m.Now().UTC())
		if !aborts || v.Source != id && v.Target != id {
			continue
		}
		if err := m.reach(ctx, v, next); err != nil {
			return did, err
		}
		did.Moves++
	}
	did.Known = m.known()
	return did, nil
}

// known is the greatest id of a tenant.
func (m *Memory) known() (id directory.TenantID) {
	for t := range m.tenants {
		id = max(id, t)
	}
	return id
}

func (m *Memory) isIncarnation(id directory.CellID, incarnation string) error {
	c, ok := m.cells[id]
	if !ok {
		return noCell(id)
	}
	return c.MustBe(incarnation)
}
