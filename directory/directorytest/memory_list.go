package directorytest

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/cellway/cellway/directory"
)

// ListTenants implements directory.Tenants.
func (m *Memory) ListTenants(ctx context.Context, of directory.TenantFilter, after directory.TenantID, limit int) ([]directory.Tenant, error) {
	if err := cmp.Or(directory.CheckLimit(limit), of.Validate()); err != nil {
		return nil, err
	}
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	list := []directory.Tenant{}
	for id, r := range m.tenants {
		if id > after && r.owned != directory.Deleted && (of.Cell == "" || of.Cell == r.Placement.Cell) && named(r.Tenant, of.Name) {
			list = append(list, r.copy())
		}
	}
	slices.SortFunc(list, func(a, b directory.Tenant) int { return cmp.Compare(a.ID, b.ID) })
	return list[:min(limit, len(list))], nil
}

// named reports whether each word of name begins one of t's.
func named(t directory.Tenant, name string) bool {
	has := directory.Words(strings.ToLower(t.Slug + " " + t.Name))
	for _, word := range directory.Words(strings.ToLower(name)) {
		if !slices.ContainsFunc(has, func(w string) bool { return strings.HasPrefix(w, word) }) {
			return false
		}
	}
	return true
}
