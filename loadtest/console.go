package loadtest

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/cellway/cellway/directory"
)

// A Console calls the directory as an operator does.
type Console struct {
	dir   *Endpoint
	token string
}

// NewConsole makes a Console for the directory at url with an operator's token.
func NewConsole(url, token string) *Console { return &Console{NewEndpoint(url), token} }

// Close ends the connections that nobody uses.
func (c *Console) Close() { c.dir.Close() }

// Call sends a request and reads the answer into into, unless that is nil.
func (c *Console) Call(ctx context.Context, method, path string, body, into any) error {
	a, err := c.dir.Do(ctx, Request{Method: method, Path: path, Body: body, Token: c.token})
	if err != nil {
		return err
	}
	if err := a.Problem(); err != nil || into == nil {
		return err
	}
	return a.Decode(into)
}

// tokenLife is how long a token lasts that a Console has issued: longer than any run.
const tokenLife = 24 * time.Hour

// Tenant makes a tenant as an operator does, with a token of its own, and waits
// until every router of ep routes it.
func (c *Console) Tenant(ctx context.Context, ep *Endpoint, rec *Recorder, want directory.NewTenant, plan Plan) (*Tenant, error) {
	var made directory.Tenant
	if err := c.Call(ctx, http.MethodPost, "/v1/tenants", want, &made); err != nil {
		return nil, fmt.Errorf("make tenant %s: %w", want.Slug, err)
	}
	token, err := c.Token(ctx, made.ID)
	if err != nil {
		return nil, err
	}
	t := Adopt(ep, rec, made, token, plan)
	return t, t.AwaitRoute(ctx)
}

// Token is a new token of a tenant.
func (c *Console) Token(ctx context.Context, id directory.TenantID) (string, error) {
	var out struct{ Token string }
	ask := map[string]any{"subject": "loadtest", "ttl_seconds": int(tokenLife.Seconds())}
	if err := c.Call(ctx, http.MethodPost, "/v1/tenants/"+id.String()+"/tokens", ask, &out); err != nil {
		return "", fmt.Errorf("issue a token for tenant %d: %w", id, err)
	}
	return out.Token, nil
}

// Move is a move as the directory has it now.
func (c *Console) Move(ctx context.Context, id directory.MoveID) (m directory.Move, err error) {
	err = c.Call(ctx, http.MethodGet, "/v1/moves/"+string(id), nil, &m)
	return m, err
}

// Wish asks something of a move.
func (c *Console) Wish(ctx context.Context, id directory.MoveID, w directory.Wish) error {
	body := map[string]directory.Wish{"wish": w}
	if err := c.Call(ctx, http.MethodPost, "/v1/moves/"+string(id)+"/wish", body, nil); err != nil {
		return fmt.Errorf("wish %q of move %s: %w", w, id, err)
	}
	return nil
}
