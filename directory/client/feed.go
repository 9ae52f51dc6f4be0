package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cellway/cellway/directory"
)

// longestPoll is the most that one request waits for changes; balancers and
// proxies between us and the directory give up at a minute or so.
const longestPoll = 25 * time.Second

// snapshotTime is what a large table may take beside the timeout.
const snapshotTime = 30 * time.Second

// Snapshot implements directory.Feed.
func (c *Client) Snapshot(ctx context.Context) (directory.Update, error) {
	var out directory.Update
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "table"}, into: &out, repeat: true, wait: snapshotTime})
	return out, err
}

// Changes implements directory.Feed. A wait above 25 s takes several requests. It
// is not repeated after a failure: see Watch.
func (c *Client) Changes(ctx context.Context, router string, since directory.Version, wait time.Duration) (directory.Update, error) {
	q := url.Values{}
	if router != "" {
		q.Set("router", router)
	}
	return c.changes(ctx, since, wait, q)
}

func (c *Client) changes(ctx context.Context, since directory.Version, wait time.Duration, q url.Values) (directory.Update, error) {
	q.Set("since", strconv.FormatInt(int64(since), 10))
	for end := time.Now().Add(wait); ; {
		poll := max(0, min(longestPoll, time.Until(end)))
		q.Set("wait", poll.Round(time.Millisecond).String())
		var out directory.Update
		k := call{method: http.MethodGet, path: []string{"v1", "table", "changes"}, query: q, into: &out, wait: poll}
		if err := c.do(ctx, k); err != nil || out.Version > since || out.Part != nil || poll < longestPoll {
			return out, err
		}
	}
}

// Watermark implements directory.Feed.
func (c *Client) Watermark(ctx context.Context) (directory.Watermark, error) {
	var out directory.Watermark
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "routers"}, into: &out, repeat: true})
	return out, err
}

// Audit implements directory.Feed.
func (c *Client) Audit(ctx context.Context, subject string, after int64, limit int) ([]directory.AuditEntry, error) {
	return c.audit(ctx, url.Values{}, subject, after, limit)
}

// NewestAudit implements directory.Feed.
func (c *Client) NewestAudit(ctx context.Context, subject string, before int64, limit int) ([]directory.AuditEntry, error) {
	return c.audit(ctx, url.Values{"order": {"newest"}}, subject, before, limit)
}

func (c *Client) audit(ctx context.Context, q url.Values, subject string, from int64, limit int) ([]directory.AuditEntry, error) {
	var out page[directory.AuditEntry]
	q.Set("limit", strconv.Itoa(limit))
	if subject != "" {
		q.Set("subject", subject)
	}
	if from > 0 {
		q.Set("cursor", strconv.FormatInt(from, 10))
	}
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "audit"}, query: q, into: &out, repeat: true})
	return out.Items, err
}
