package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cellway/cellway/directory"
)

var _ directory.Rollouts = (*Client)(nil)

// CreateRollout implements directory.Rollouts. It is not repeated: a second attempt
// would find the first one's roll-out open.
func (c *Client) CreateRollout(ctx context.Context, n directory.NewRollout) (directory.Rollout, error) {
	var out directory.Rollout
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "rollouts"}, body: n, into: &out})
	return out, err
}

// Rollout implements directory.Rollouts.
func (c *Client) Rollout(ctx context.Context, id directory.RolloutID) (directory.Rollout, error) {
	var out directory.Rollout
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "rollouts", string(id)}, into: &out, repeat: true})
	return out, err
}

// ListRollouts implements directory.Rollouts.
func (c *Client) ListRollouts(ctx context.Context, limit int) ([]directory.Rollout, error) {
	var out page[directory.Rollout]
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "rollouts"}, query: q, into: &out, repeat: true})
	return out.Items, err
}

// AskRollout implements directory.Rollouts.
func (c *Client) AskRollout(ctx context.Context, id directory.RolloutID, wish directory.RolloutWish) (directory.Rollout, error) {
	var out directory.Rollout
	body := map[string]directory.RolloutWish{"wish": wish}
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "rollouts", string(id), "wish"}, body: body, into: &out, repeat: true})
	return out, err
}

// Poll implements directory.Rollouts; see Changes.
func (c *Client) Poll(ctx context.Context, router string, since directory.Version, wait time.Duration, has directory.Report) (directory.Update, error) {
	q := url.Values{
		"router": {router}, "rollout": {string(has.Rollout)}, "round": {strconv.Itoa(has.Round)},
		"requests": {strconv.FormatInt(has.Requests, 10)}, "failed": {strconv.FormatInt(has.Failed, 10)},
	}
	if has.Refused != nil {
		text, err := json.Marshal(has.Refused)
		if err != nil {
			return directory.Update{}, fmt.Errorf("encode refusal: %w", err)
		}
		q.Set("refused", string(text))
	}
	return c.changes(ctx, since, wait, q)
}
