package router

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/table"
)

// An exchange is one request as the router knows it, for logs, metrics and
// spans. One goroutine at a time uses it.
type exchange struct {
	began     time.Time
	log       *telemetry.Request
	source    string
	kept      bool          // the client's Authorization is not for the cell, which gets what is signed of claims
	claims    *token.Claims // nil where nothing was verified
	shown     identify.Credential
	via       string        // X-Forwarded-For as a trusted hop sent it
	maxBody   int64         // bytes of the body; 0: any
	entry     table.Entry   // where it was last sent, or would have been
	held      time.Duration // waiting for a newer table
	upload    time.Duration // waiting for the client's body
	cell      time.Duration // waiting for the cell's answer to begin
	toHeaders time.Duration // from began to the cell's answer; 0 where none came
	streams   bool          // the answer is an event stream
	plan      *plan         // of a flight that was sent already and is gone on with; nil: none
}

type exchangeKey struct{}

func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// exchangeFrom is the exchange of ctx, or one that nobody looks at.
func exchangeFrom(ctx context.Context) *exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{began: time.Now(), log: &telemetry.Request{}}
}

// know takes over what was decided.
func (x *exchange) know(d Decision) {
	x.source, x.kept, x.claims, x.shown = d.Source, d.Kept, d.Claims, d.Credential()
	if d.Claims != nil {
		x.log.UserHash = telemetry.HashUser(d.Claims.Subject)
	}
	if d.Source != "" {
		x.send(d.Entry)
	}
}

// send notes where the request goes now.
func (x *exchange) send(e table.Entry) {
	x.entry = e
	x.log.Tenant, x.log.Cell, x.log.Epoch = e.Tenant.String(), string(e.Cell), int64(e.Epoch)
}

// wait notes time that the request was held.
func (x *exchange) wait(d time.Duration) {
	x.held += d
	x.log.Held = x.held
}

// answered notes that the cell's answer has begun, or failed to (!ok), after took.
func (x *exchange) answered(took time.Duration, ok bool) {
	x.cell += took
	if ok {
		x.toHeaders = time.Since(x.began)
	}
}

// overhead is what the router itself added before the answer began; false where
// no cell answered.
func (x *exchange) overhead() (time.Duration, bool) {
	if x.toHeaders == 0 {
		return 0, false
	}
	return max(0, x.toHeaders-x.held-x.upload-x.cell), true
}

// describe puts onto the span what semantic conventions and operators ask for.
func (x *exchange) describe(span trace.Span, r *http.Request, status int) {
	span.SetAttributes(attribute.String("http.request.method", method(r)), attribute.Int("http.response.status_code", status))
	if x.source == "" {
		return
	}
	span.SetAttributes(telemetry.TenantKey.Int64(int64(x.entry.Tenant)), telemetry.CellKey.String(string(x.entry.Cell)),
		telemetry.EpochKey.Int64(int64(x.entry.Epoch)), attribute.String("cellway.identified_by", x.source))
}

// telling reports whether the time of r's answer is the cell's, and not that of
// a client who uploads or has left.
func telling(r *http.Request) bool {
	return r.ContentLength >= 0 && r.ContentLength <= keptBody && awaited(r)
}
