package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
)

// AddKey implements directory.Keys.
func (c *Client) AddKey(ctx context.Context, k directory.Key) (directory.Key, error) {
	if err := k.Validate(); err != nil {
		return k, err
	}
	in := struct {
		ID        string    `json:"id"`
		Name      string    `json:"name"`
		Hash      string    `json:"hash"`
		ExpiresAt time.Time `json:"expires_at,omitzero"`
	}{k.ID, k.Name, k.Hash, k.ExpiresAt}
	var out directory.Key
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "tenants", k.Tenant.String(), "keys"}, body: in, into: &out, repeat: true})
	return out, err
}

// ListKeys implements directory.Keys.
func (c *Client) ListKeys(ctx context.Context, id directory.TenantID) ([]directory.Key, error) {
	var out page[directory.Key]
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "tenants", id.String(), "keys"}, into: &out, repeat: true})
	return out.Items, err
}

// RevokeKey implements directory.Keys.
func (c *Client) RevokeKey(ctx context.Context, id directory.TenantID, key string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: []string{"v1", "tenants", id.String(), "keys", key}, repeat: true})
}

// RevokeToken implements directory.Keys.
func (c *Client) RevokeToken(ctx context.Context, t directory.RevokedToken) error {
	if err := t.Validate(); err != nil {
		return err
	}
	in := struct {
		ID        string    `json:"id"`
		ExpiresAt time.Time `json:"expires_at"`
	}{t.ID, t.ExpiresAt}
	return c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "tenants", t.Tenant.String(), "revocations"}, body: in, repeat: true})
}

// Credentials implements directory.Keys. A wait above 25 s takes several
// requests; it is not repeated after a failure: see WatchCredentials.
func (c *Client) Credentials(ctx context.Context, since directory.Version, wait time.Duration) (directory.Credentials, error) {
	for end := time.Now().Add(wait); ; {
		poll := max(0, min(longestPoll, time.Until(end)))
		q := url.Values{"since": {strconv.FormatInt(int64(since), 10)}, "wait": {poll.Round(time.Millisecond).String()}}
		var out directory.Credentials
		k := call{method: http.MethodGet, path: []string{"v1", "credentials"}, query: q, into: &out, wait: poll}
		if since == 0 {
			k.wait = snapshotTime
		}
		if err := c.do(ctx, k); err != nil || out.Version > since || since == 0 || poll < longestPoll {
			return out, err
		}
	}
}

// WatchCredentials keeps what apply keeps, which is at version from, up to date
// until ctx ends, then returns nil. A directory that is dead stops nothing: it is
// asked again, with jittered pauses, and failed hears of it. It is asked in beats, like
// Watch asks: a revocation must not wait on a connection that died silently. apply hears of each answer,
// also of one without news: its head may be another's. After a failure of apply, and
// where the directory cannot continue, the next update is everything.
func WatchCredentials(ctx context.Context, keys directory.Keys, from directory.Version,
	apply func(directory.Credentials) error, failed func(err error, pause time.Duration),
) error {
	at, failures := from, 0
	for ctx.Err() == nil {
		c, err := pollCredentials(ctx, keys, at, failures > 0)
		switch {
		case err == nil && c.Since != at:
			err = fmt.Errorf("asked for credentials since %d, got since %d", at, c.Since)
		case err == nil && c.Version >= at:
			if err = apply(c); err != nil {
				c.Version = 0
			}
			at = c.Version
		case errors.Is(err, problem.Gone):
			at = 0
		}
		if err == nil {
			failures = 0
			continue
		}
		if ctx.Err() != nil {
			break
		}
		failures++
		most := mostPause
		if unanswered(err) || errors.Is(err, context.DeadlineExceeded) {
			most = silentPause
		}
		d := backoff(failures, firstPause, most)
		failed(err, d)
		run.Pause(ctx, d) // the loop looks at ctx
	}
	return nil
}

// pollCredentials asks for what is newer than at: in good times it waits for that, for a
// beat. After a failure it does not wait, because the record may have been restored
// meanwhile and its head says so at once; then, and for everything, a slow directory has
// the time of its client.
func pollCredentials(ctx context.Context, keys directory.Keys, at directory.Version, failed bool) (directory.Credentials, error) {
	if failed || at == 0 {
		return keys.Credentials(ctx, at, 0)
	}
	ctx, cancel := context.WithTimeout(ctx, beat+latePoll)
	defer cancel()
	return keys.Credentials(ctx, at, beat)
}
