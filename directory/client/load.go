package client

import (
	"context"
	"net/http"

	"github.com/cellway/cellway/directory"
)

// ReportLoad implements directory.Loads.
func (c *Client) ReportLoad(ctx context.Context, id directory.CellID, incarnation string, loads []directory.TenantLoad) error {
	if loads == nil {
		loads = []directory.TenantLoad{} // a report of nothing is one
	}
	in := struct {
		Incarnation string                 `json:"incarnation"`
		Tenants     []directory.TenantLoad `json:"tenants"`
	}{incarnation, loads}
	return c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "cells", string(id), "load"}, body: in, repeat: true})
}

// CellLoad implements directory.Loads.
func (c *Client) CellLoad(ctx context.Context, id directory.CellID) ([]directory.TenantLoad, error) {
	var out page[directory.TenantLoad]
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "cells", string(id), "load"}, into: &out, repeat: true})
	return out.Items, err
}
