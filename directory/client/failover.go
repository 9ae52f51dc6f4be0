package client

import (
	"context"
	"net/http"

	"github.com/cellway/cellway/directory"
)

// Witness implements directory.Failover.
func (c *Client) Witness(ctx context.Context, id directory.CellID, incarnation string, number int64, tenant directory.TenantID) (out directory.Witnessed, err error) {
	in := struct {
		Incarnation string             `json:"incarnation"`
		Number      int64              `json:"number"`
		Tenant      directory.TenantID `json:"tenant,omitempty"`
	}{incarnation, number, tenant}
	err = c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "cells", string(id), "witness"}, body: in, into: &out, repeat: true})
	return out, err
}

// AbortMoves implements directory.Failover. After a repetition the number of moves
// is the last attempt's.
func (c *Client) AbortMoves(ctx context.Context, id directory.CellID, incarnation, why string) (directory.Recovery, error) {
	in := struct {
		Incarnation string `json:"incarnation"`
		Why         string `json:"why"`
	}{incarnation, why}
	var out directory.Recovery
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "cells", string(id), "abort_moves"}, body: in, into: &out, repeat: true})
	return out, err
}
