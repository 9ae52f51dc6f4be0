package directorytest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// AddCell implements directory.Cells.
func (m *Memory) AddCell(ctx context.Context, c directory.Cell) (directory.Cell, error) {
	if err := m.lock(ctx); err != nil {
		return directory.Cell{}, err
	}
	defer m.mu.Unlock()
	old, known := m.cells[c.ID]
	if !known {
		kept, err := c.Register(nil)
		if err != nil {
			return directory.Cell{}, err
		}
		kept.Tenants, kept.Healthy, kept.SeenAt = 0, false, time.Time{}
		if c.Incarnation != "" {
			kept.SeenAt = m.Now().UTC()
		}
		m.cells[c.ID] = kept
		m.note(ctx, "cell.add", subject(c.ID), nil, kept)
		m.publish(entry{cell: c.ID})
		return m.cell(c.ID), nil
	}
	kept, err := c.Register(&old)
	if err != nil {
		return directory.Cell{}, err
	}
	kept.Tenants, kept.Healthy, kept.SeenAt = old.Tenants, old.Healthy, old.SeenAt
	if kept != old {
		m.note(ctx, "cell.update", subject(c.ID), old, kept)
	}
	if c.Incarnation != "" {
		kept.SeenAt = m.Now().UTC()
	}
	m.cells[c.ID] = kept
	if kept.Route() != old.Route() && kept.State != directory.Retired {
		m.publish(entry{cell: c.ID})
	}
	return m.cell(c.ID), nil
}

// Heartbeat implements directory.Cells.
func (m *Memory) Heartbeat(ctx context.Context, id directory.CellID, incarnation string) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	c, ok := m.cells[id]
	if !ok {
		return noCell(id)
	}
	if err := c.MayBeat(incarnation); err != nil {
		return err
	}
	c.SeenAt = m.Now().UTC()
	m.cells[id] = c
	return nil
}

// Cell implements directory.Cells.
func (m *Memory) Cell(ctx context.Context, id directory.CellID) (directory.Cell, error) {
	if err := m.lock(ctx); err != nil {
		return directory.Cell{}, err
	}
	defer m.mu.Unlock()
	if _, ok := m.cells[id]; !ok {
		return directory.Cell{}, noCell(id)
	}
	return m.cell(id), nil
}

// ListCells implements directory.Cells.
func (m *Memory) ListCells(ctx context.Context) ([]directory.Cell, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return m.listCells(), nil
}

// SetCellState implements directory.Cells.
func (m *Memory) SetCellState(ctx context.Context, id directory.CellID, to directory.CellState) (directory.Cell, error) {
	if err := m.lock(ctx); err != nil {
		return directory.Cell{}, err
	}
	defer m.mu.Unlock()
	return m.enter(ctx, id, to, false)
}

// enter is SetCellState, under mu; of a cell that is lost, without asking for the moves that need it.
func (m *Memory) enter(ctx context.Context, id directory.CellID, to directory.CellState, lost bool) (directory.Cell, error) {
	old, ok := m.cells[id]
	if !ok {
		return directory.Cell{}, noCell(id)
	}
	kept, err := old.Enter(to)
	if err != nil {
		return directory.Cell{}, err
	}
	if kept != old {
		if err := directory.MayEnter(id, to, m.open(0)); err != nil && !lost {
			return directory.Cell{}, err
		}
		m.cells[id] = kept
		m.note(ctx, "cell.state", subject(id), old, kept)
		m.publish(entry{cell: id})
	}
	return m.cell(id), nil
}

// RemoveCell implements directory.Cells.
func (m *Memory) RemoveCell(ctx context.Context, id directory.CellID, lost bool) error {
	open, err := m.remove(ctx, id, lost)
	if err != nil || !lost {
		return err
	}
	return directory.EndWithout(ctx, m, open)
}

func (m *Memory) remove(ctx context.Context, id directory.CellID, lost bool) (open []directory.Move, err error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	_, err = m.enter(ctx, id, directory.Retired, lost)
	return m.find(func(v directory.Move) bool { return !v.Phase.Ended() && (v.Source == id || v.Target == id) }), err
}

// cell is a cell with its health as of now.
func (m *Memory) cell(id directory.CellID) directory.Cell {
	c := m.cells[id]
	c.Healthy = m.Now().Sub(c.SeenAt) < directory.HeartbeatTTL
	return c
}

func (m *Memory) listCells() []directory.Cell {
	cells := []directory.Cell{}
	for id, c := range m.cells {
		if c.State != directory.Retired {
			cells = append(cells, m.cell(id))
		}
	}
	slices.SortFunc(cells, func(a, b directory.Cell) int { return cmp.Compare(a.ID, b.ID) })
	return cells
}

func subject(id directory.CellID) string { return "cell/" + string(id) }

func noCell(id directory.CellID) error { return problem.New(problem.NotFound, "no cell %q", id) }
