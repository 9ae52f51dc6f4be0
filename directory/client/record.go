package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A page is how the directory answers a list.
type page[T any] struct {
	Items []T `json:"items"`
}

// AddCell implements directory.Cells.
func (c *Client) AddCell(ctx context.Context, cell directory.Cell) (directory.Cell, error) {
	in := struct {
		ID          directory.CellID    `json:"id"`
		State       directory.CellState `json:"state,omitempty"`
		Address     string              `json:"address"`
		Admin       string              `json:"admin,omitempty"`
		Locality    string              `json:"locality,omitempty"`
		Tier        string              `json:"tier,omitempty"`
		Capacity    int                 `json:"capacity"`
		Incarnation string              `json:"incarnation,omitempty"`
	}{cell.ID, cell.State, cell.Address, cell.Admin, cell.Locality, cell.Tier, cell.Capacity, cell.Incarnation}
	var out directory.Cell
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "cells"}, body: in, into: &out, repeat: true})
	return out, err
}

// Heartbeat implements directory.Cells.
func (c *Client) Heartbeat(ctx context.Context, id directory.CellID, incarnation string) error {
	body := map[string]string{"incarnation": incarnation}
	return c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "cells", string(id), "heartbeat"}, body: body, repeat: true})
}

// Cell implements directory.Cells.
func (c *Client) Cell(ctx context.Context, id directory.CellID) (directory.Cell, error) {
	var out directory.Cell
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "cells", string(id)}, into: &out, repeat: true})
	return out, err
}

// ListCells implements directory.Cells.
func (c *Client) ListCells(ctx context.Context) ([]directory.Cell, error) {
	var out page[directory.Cell]
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "cells"}, into: &out, repeat: true})
	return out.Items, err
}

// SetCellState implements directory.Cells.
func (c *Client) SetCellState(ctx context.Context, id directory.CellID, to directory.CellState) (directory.Cell, error) {
	var out directory.Cell
	body := map[string]directory.CellState{"state": to}
	err := c.do(ctx, call{method: http.MethodPut, path: []string{"v1", "cells", string(id), "state"}, body: body, into: &out, repeat: true})
	return out, err
}

// RemoveCell implements directory.Cells.
func (c *Client) RemoveCell(ctx context.Context, id directory.CellID, lost bool) error {
	q := url.Values{"lost": {strconv.FormatBool(lost)}}
	return c.do(ctx, call{method: http.MethodDelete, path: []string{"v1", "cells", string(id)}, query: q, repeat: true})
}

// CreateTenant implements directory.Tenants. It is not repeated.
func (c *Client) CreateTenant(ctx context.Context, t directory.NewTenant) (directory.Tenant, error) {
	var out directory.Tenant
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "tenants"}, body: t, into: &out})
	return out, err
}

// Tenant implements directory.Tenants.
func (c *Client) Tenant(ctx context.Context, ref string) (directory.Tenant, error) {
	var out directory.Tenant
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "tenants", ref}, into: &out, repeat: true})
	return out, err
}

// ListTenants implements directory.Tenants.
func (c *Client) ListTenants(ctx context.Context, of directory.TenantFilter, after directory.TenantID, limit int) ([]directory.Tenant, error) {
	var out page[directory.Tenant]
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if of.Cell != "" {
		q.Set("cell", string(of.Cell))
	}
	if of.Name != "" {
		q.Set("name", of.Name)
	}
	if after > 0 {
		q.Set("cursor", after.String())
	}
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "tenants"}, query: q, into: &out, repeat: true})
	return out.Items, err
}

// UpdateTenant implements directory.Tenants.
func (c *Client) UpdateTenant(ctx context.Context, id directory.TenantID, change directory.Change) (directory.Tenant, error) {
	var out directory.Tenant
	if change.Hosts != nil && *change.Hosts == nil {
		change.Hosts = &[]string{} // no hosts; null would be no change
	}
	err := c.do(ctx, call{method: http.MethodPatch, path: []string{"v1", "tenants", id.String()}, body: change, into: &out, repeat: true})
	return out, err
}

// DeleteTenant implements directory.Tenants.
func (c *Client) DeleteTenant(ctx context.Context, id directory.TenantID) error {
	return c.do(ctx, call{method: http.MethodDelete, path: []string{"v1", "tenants", id.String()}, repeat: true})
}

// Place implements directory.Tenants. It is not repeated: after Unavailable the
// caller reads the placement to learn whether it was set.
func (c *Client) Place(ctx context.Context, p directory.Placement) error {
	return c.do(ctx, call{method: http.MethodPut, path: []string{"v1", "tenants", p.Tenant.String(), "placement"}, body: p})
}

// TakeClaim implements directory.Claims.
func (c *Client) TakeClaim(ctx context.Context, claim directory.Claim) error {
	return c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "claims"}, body: claim, repeat: true})
}

// ReleaseClaim implements directory.Claims. It is not repeated: a second attempt
// would report a claim that the first one released as not found.
func (c *Client) ReleaseClaim(ctx context.Context, claim directory.Claim) error {
	if err := claim.Validate(); err != nil {
		return err
	}
	q := url.Values{"tenant": {claim.Tenant.String()}}
	return c.do(ctx, call{method: http.MethodDelete, path: []string{"v1", "claims", claim.Kind, claim.Name}, query: q})
}

// FindClaim implements directory.Claims.
func (c *Client) FindClaim(ctx context.Context, kind, name string) (directory.Claim, error) {
	var out directory.Claim
	if kind == "" || name == "" {
		return out, problem.New(problem.NotFound, "nobody owns %s %q", kind, name)
	}
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "claims", kind, name}, into: &out, repeat: true})
	return out, err
}
