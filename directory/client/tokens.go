package client

import (
	"context"
	"net/http"
	"time"

	"github.com/cellway/cellway/directory"
)

// A Token lets its bearer act for one tenant at the global endpoint.
type Token struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

// IssueToken asks for a token of the tenant's, valid for ttl (whole seconds), in
// which subject says who will use it. Only operators may.
func (c *Client) IssueToken(ctx context.Context, id directory.TenantID, subject string, ttl time.Duration) (Token, error) {
	in := struct {
		Subject string `json:"subject"`
		TTL     int64  `json:"ttl_seconds"`
	}{subject, int64(ttl / time.Second)}
	var out Token
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "tenants", id.String(), "tokens"}, body: in, into: &out})
	return out, err
}

// A Signup is what a new customer gets: the tenant and its first token.
type Signup struct {
	Tenant directory.Tenant `json:"tenant"`
	Token
}

// Signup creates a tenant as the public may: slug, name, locality and tier only.
// It works through a router's global endpoint too.
func (c *Client) Signup(ctx context.Context, n directory.NewTenant) (Signup, error) {
	var out Signup
	err := c.do(ctx, call{method: http.MethodPost, path: []string{"signup"}, body: n, into: &out})
	return out, err
}
