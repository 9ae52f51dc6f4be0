package cell

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
)

// Why a request is turned away before its operation runs: label of
// cell_admission_rejected_total.
const (
	rejectAssertion = "assertion"
	rejectToken     = "token"
	rejectRate      = "rate"
	rejectStale     = "stale_epoch"
)

// A gate decides who comes in: a router's signed word for the tenant, and a
// bearer token, where there is one, that says the same.
type gate struct {
	cell       directory.CellID
	assertions token.Keys
	tokens     token.Keys
	now        func() time.Time
}

// admit checks a request and says for whom it is. reason is for the metric.
func (g gate) admit(r *http.Request, c *call) (reason string, err error) {
	values := r.Header.Values(token.AssertionHeader)
	if len(values) != 1 {
		return rejectAssertion, problem.New(problem.Unauthenticated, "exactly one %s header is needed", token.AssertionHeader)
	}
	a, err := g.assertions.CheckAssertion(values[0], g.cell, g.now())
	if err != nil {
		return rejectAssertion, err
	}
	user, err := g.bearer(r, a.Tenant)
	if err != nil {
		return rejectToken, err
	}
	c.tenant, c.epoch = a.Tenant, a.Epoch
	g.describe(r, a, user)
	return "", nil
}

// bearer is the subject of the request's token, "" where it has none. One that is not this
// tenant's is refused as if it were forged. Tokens of ours are made by routers, for this
// cell: one that does not count is no fault of the client, and no 401.
func (g gate) bearer(r *http.Request, tenant directory.TenantID) (string, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return "", nil
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	if len(values) != 1 || !strings.EqualFold(scheme, "bearer") {
		return "", problem.New(problem.Unauthenticated, "one Authorization header of scheme Bearer is accepted")
	}
	text = strings.TrimSpace(text)
	claims, err := g.tokens.Verify(text, g.now())
	switch {
	case !token.Ours(text):
		return "", problem.New(problem.Unauthenticated, "token is not valid")
	case err != nil || claims.Kind != token.Tenant || claims.Tenant != tenant:
		return "", problem.New(problem.AssertionRefused, "the router's token is not valid")
	}
	return claims.Subject, nil
}

// describe tells the log line and the span whose request this is.
func (g gate) describe(r *http.Request, a token.Assertion, user string) {
	req := telemetry.RequestFrom(r.Context())
	req.Tenant, req.Cell, req.Epoch = a.Tenant.String(), string(g.cell), int64(a.Epoch)
	req.UserHash = telemetry.HashUser(user)
	trace.SpanFromContext(r.Context()).SetAttributes(telemetry.TenantKey.Int64(int64(a.Tenant)),
		telemetry.CellKey.String(string(g.cell)), telemetry.EpochKey.Int64(int64(a.Epoch)))
}

// stripTenant takes a leading /t/{slug} off the path. The slug is a hint for
// routers and means nothing here.
func stripTenant(r *http.Request) *http.Request {
	path, ok := cutTenant(r.URL.Path)
	if !ok {
		return r
	}
	raw, _ := cutTenant(r.URL.RawPath)
	out := new(http.Request)
	*out = *r
	out.URL = new(url.URL)
	*out.URL = *r.URL
	out.URL.Path, out.URL.RawPath = path, raw
	return out
}

func cutTenant(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, "/t/")
	if !ok {
		return path, false
	}
	_, rest, _ = strings.Cut(rest, "/")
	return "/" + rest, true
}
