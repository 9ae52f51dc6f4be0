package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/cellway/cellway/directory"
)

// ListDeletions implements directory.Deletions.
func (c *Client) ListDeletions(ctx context.Context, cell directory.CellID, after directory.TenantID, limit int) ([]directory.Deletion, error) {
	var out page[directory.Deletion]
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if cell != "" {
		q.Set("cell", string(cell))
	}
	if after > 0 {
		q.Set("cursor", after.String())
	}
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "deletions"}, query: q, into: &out, repeat: true})
	return out.Items, err
}

// TellDeletion implements directory.Deletions.
func (c *Client) TellDeletion(ctx context.Context, cell directory.CellID, incarnation string, tenant directory.TenantID, epoch directory.Epoch, purged bool) error {
	in := struct {
		Incarnation string          `json:"incarnation"`
		Epoch       directory.Epoch `json:"epoch"`
		Purged      bool            `json:"purged"`
	}{incarnation, epoch, purged}
	return c.do(ctx, call{method: http.MethodPut, path: []string{"v1", "cells", string(cell), "deletions", tenant.String()}, body: in, repeat: true})
}

// HurryDeletion implements directory.Deletions.
func (c *Client) HurryDeletion(ctx context.Context, tenant directory.TenantID) error {
	return c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "tenants", tenant.String(), "purge"}, repeat: true})
}
