package directorytest

import (
	"cmp"
	"context"
	"slices"

	"github.com/cellway/cellway/directory"
)

// ReportLoad implements directory.Loads.
func (m *Memory) ReportLoad(ctx context.Context, id directory.CellID, incarnation string, loads []directory.TenantLoad) error {
	if err := directory.CheckLoads(loads); err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if err := m.isIncarnation(id, incarnation); err != nil {
		return err
	}
	kept := slices.Clone(loads)
	for i := range kept {
		kept[i].At = m.Now().UTC()
	}
	slices.SortFunc(kept, func(a, b directory.TenantLoad) int { return cmp.Compare(a.Tenant, b.Tenant) })
	m.loads[id] = kept
	return nil
}

// CellLoad implements directory.Loads.
func (m *Memory) CellLoad(ctx context.Context, id directory.CellID) ([]directory.TenantLoad, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if _, ok := m.cells[id]; !ok {
		return nil, noCell(id)
	}
	return slices.Clone(m.loads[id]), nil
}
