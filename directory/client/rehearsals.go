package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/cellway/cellway/directory"
)

// Rehearsal implements directory.Rehearsals.
func (c *Client) Rehearsal(ctx context.Context, id directory.RehearsalID) (directory.Rehearsal, error) {
	var out directory.Rehearsal
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "rehearsals", string(id)}, into: &out, repeat: true})
	return out, err
}

// LeaseRehearsal implements directory.Rehearsals. As with moves, only that of one by its id
// is asked for again.
func (c *Client) LeaseRehearsal(ctx context.Context, id directory.RehearsalID, holder string, ttl time.Duration) (directory.Rehearsal, error) {
	var out directory.Rehearsal
	if err := directory.CheckLease("", holder, ttl); err != nil {
		return out, err
	}
	in := struct {
		ID     directory.RehearsalID `json:"id,omitempty"`
		Holder string                `json:"holder"`
		TTL    int64                 `json:"ttl_ms"`
	}{id, holder, ceilMillis(ttl)}
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "rehearsals", "lease"}, body: in, into: &out, repeat: id != ""})
	return out, err
}

// EndRehearsal implements directory.Rehearsals. It may be repeated, as Advance may.
func (c *Client) EndRehearsal(ctx context.Context, r directory.Rehearsal) error {
	in := struct {
		Lease  int64           `json:"lease"`
		Report json.RawMessage `json:"report"`
	}{r.Lease, r.Report}
	return c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "rehearsals", string(r.ID), "end"}, body: in, repeat: true})
}
