package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cellway/cellway/directory"
)

// CreateMove implements directory.Moves. It is not repeated: a second attempt
// would find the tenant moving; ListMoves tells whether it is.
func (c *Client) CreateMove(ctx context.Context, n directory.NewMove) (directory.Move, error) {
	var out directory.Move
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "moves"}, body: n, into: &out})
	return out, err
}

// Move implements directory.Moves.
func (c *Client) Move(ctx context.Context, id directory.MoveID) (directory.Move, error) {
	var out directory.Move
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "moves", string(id)}, into: &out, repeat: true})
	return out, err
}

// ListMoves implements directory.Moves.
func (c *Client) ListMoves(ctx context.Context, tenant directory.TenantID, ended bool, before directory.MoveID, limit int) ([]directory.Move, error) {
	var out page[directory.Move]
	q := url.Values{"limit": {strconv.Itoa(limit)}, "ended": {strconv.FormatBool(ended)}}
	if tenant != 0 {
		q.Set("tenant", tenant.String())
	}
	if before != "" {
		q.Set("cursor", string(before))
	}
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "moves"}, query: q, into: &out, repeat: true})
	return out.Items, err
}

// AskMove implements directory.Moves.
func (c *Client) AskMove(ctx context.Context, id directory.MoveID, w directory.Wish) (directory.Move, error) {
	var out directory.Move
	body := map[string]directory.Wish{"wish": w}
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "moves", string(id), "wish"}, body: body, into: &out, repeat: true})
	return out, err
}

// LeaseMove implements directory.Moves. Only a lease of a move by its id is asked
// for again: a second answer to "any move", or one in its pause, would be another move, and a lease
// that the first attempt gave back is nobody's.
func (c *Client) LeaseMove(ctx context.Context, id directory.MoveID, holder string, ttl time.Duration) (directory.Move, error) {
	var out directory.Move
	if err := directory.CheckLease(id, holder, ttl); err != nil {
		return out, err
	}
	in := struct {
		ID     directory.MoveID `json:"id,omitempty"`
		Holder string           `json:"holder"`
		TTL    int64            `json:"ttl_ms"`
	}{id, holder, ceilMillis(ttl)}
	k := call{method: http.MethodPost, path: []string{"v1", "moves", "lease"}, body: in, into: &out, repeat: id != "" && id != directory.InPause && ttl > 0}
	err := c.do(ctx, k)
	return out, err
}

// RestMove implements directory.Moves. It is not repeated: the lease ends by itself.
func (c *Client) RestMove(ctx context.Context, m directory.Move, d time.Duration) error {
	in := struct {
		Lease int64          `json:"lease"`
		Wish  directory.Wish `json:"wish"`
		For   int64          `json:"for_ms"`
	}{m.Lease, m.Wish, ceilMillis(d)}
	return c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "moves", string(m.ID), "rest"}, body: in})
}

// ceilMillis rounds up: a short lease must not become none.
func ceilMillis(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// Advance implements directory.Moves. It may be repeated: the directory knows
// again what the same mover has told it already.
func (c *Client) Advance(ctx context.Context, m directory.Move, from directory.Phase) error {
	in := struct {
		Move directory.Move  `json:"move"`
		From directory.Phase `json:"from"`
	}{m, from}
	return c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "moves", string(m.ID), "advance"}, body: in, repeat: true})
}
