// Package router is the stateless edge: it says which tenant a request is of,
// looks up the cell that owns the tenant, holds the request while the owner
// changes, and forwards it.
//
// It promises that a request reaches a cell only with our own assertion of
// tenant, cell and epoch, that a cell which does not answer takes nothing from
// the others, and that with the directory dead it goes on from its last table.
package router

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/singleflight"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/router/front"
	"github.com/cellway/cellway/router/guard"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/sign"
	"github.com/cellway/cellway/router/streams"
	"github.com/cellway/cellway/router/table"
)

// source is who the router is in a problem document.
const source = "router"

// Options are what a Router is made of.
type Options struct {
	Chain         *identify.Chain
	Table         *table.Table
	AssertionKeys token.Keys
	AuthRequired  bool          // a request without a valid tenant token is 401
	CellTimeout   time.Duration // one request to a cell, whole
	Hold          HoldLimits
	Guard         *guard.Guard // what the edge refuses; nil refuses nothing
	MaxBody       int64        // bytes of a request's body
	Directory     *url.URL     // takes POST /signup; nil answers 404
	Forwarder     Forwarder
	// Covering is the certificate for a host, as certs.Hosts has it; nil where there
	// is no TLS. A request for a host of another one than its connection's is refused.
	Covering func(host string) (name string, ok bool)
	// Refresh brings the table up to date at once, or fails. It is asked when a
	// cell knows a newer epoch than the table, at most once at a time; nil only
	// waits for the table to change by itself.
	Refresh  func(ctx context.Context) error
	Log      *slog.Logger
	Registry *prometheus.Registry
}

// A Router serves tenants' requests. Make it with New and close it.
type Router struct {
	Options
	assertions sign.Assertions
	bearers    sign.Bearers
	holds      *holds
	streams    *streams.Streams
	metrics    *metrics
	signup     http.Handler
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator

	refreshing singleflight.Group
	retiring   atomic.Bool
	background context.Context // of refreshes: they outlive the request that asked
	stop       context.CancelFunc
	wg         sync.WaitGroup
}

// New makes a Router.
func New(o Options) *Router {
	ctx, stop := context.WithCancel(context.Background())
	if o.Guard == nil {
		o.Guard = guard.New(o.Registry)
	}
	rt := &Router{
		Options: o, metrics: newMetrics(o.Registry, o.Table), tracer: otel.Tracer("github.com/cellway/cellway/router"),
		propagator: otel.GetTextMapPropagator(), background: ctx, stop: stop,
	}
	rt.assertions.Keys = o.AssertionKeys
	rt.bearers.Keys = o.Chain.Keys
	rt.holds = newHolds(o.Hold, rt.metrics)
	rt.streams = streams.New(o.Registry, o.Chain)
	rt.wg.Go(func() { rt.streams.Watch(ctx, rt.Table) })
	if cells, ok := o.Forwarder.(prometheus.Collector); ok {
		o.Registry.MustRegister(cells)
	}
	rt.signup = newSignup(&rt.Options)
	return rt
}

// Close ends what a Router does in the background. Requests must have ended.
func (rt *Router) Close() {
	rt.stop()
	rt.wg.Wait()
}

// Handler is the tenants' listener: one log line and one span per request.
func (rt *Router) Handler() http.Handler {
	return telemetry.HTTP(rt.Log, source, true, http.HandlerFunc(rt.serve))
}

// serve answers one request and counts it, however it ends.
func (rt *Router) serve(w http.ResponseWriter, r *http.Request) {
	x := &exchange{began: time.Now(), log: telemetry.RequestFrom(r.Context())}
	ctx := rt.propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := rt.tracer.Start(ctx, "router "+method(r), trace.WithSpanKind(trace.SpanKindServer))
	rt.propagator.Inject(ctx, propagation.HeaderCarrier(w.Header()))
	rt.sayClose(w, r)
	sw := &telemetry.StatusWriter{ResponseWriter: w}
	r = r.WithContext(withExchange(ctx, x))
	defer func() {
		rt.metrics.done(x, sw.Status(), time.Since(x.began))
		if sw.Status() >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(sw.Status()))
		}
		x.describe(span, r, sw.Status())
		span.End()
	}()
	if err := rt.answer(sw, r, x); err != nil {
		rt.refuse(sw, r, x, err)
	}
}

// answer does what the request needs. An error means that nothing was written.
func (rt *Router) answer(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if rt.MaxBody > 0 && r.ContentLength > rt.MaxBody {
		return problem.New(problem.TooLarge, "a body is at most %d bytes", rt.MaxBody)
	}
	if p := takenOver(w); p != nil {
		x.began, x.plan, x.maxBody = p.began, p, p.maxBody
		x.send(p.entry)
		x.source, x.kept, x.claims, x.shown, x.log.UserHash = p.source, p.kept, p.claims, p.shown, p.log.UserHash
		tell(w, &p.said)
		return rt.deliver(w, r, x)
	}
	if err := rt.misdirected(r.TLS, r.Host); err != nil {
		return err
	}
	first, err := rt.checkClient(w, r, x)
	if err != nil {
		return err
	}
	defer rt.Guard.Done(first)
	d := rt.decide(identify.HeadOf(r), rt.Table.View(), (*identify.Chain).Identify)
	x.know(d)
	switch d.Verdict {
	case Refuse:
		return d.Err
	case Signup:
		if err := rt.readSignup(w, r, x); err != nil {
			return err
		}
		if err := front.Arrived(r.Context(), true); err != nil {
			return err
		}
		rt.signup.ServeHTTP(w, r)
		return nil
	case Hello:
		hello(w)
		return nil
	}
	v, err := rt.checkTenant(w, r, x, first)
	if err != nil {
		return err
	}
	defer rt.Guard.Done(v)
	return rt.deliver(w, r, x)
}

// refuse answers with a problem of the router's own.
func (rt *Router) refuse(w http.ResponseWriter, r *http.Request, x *exchange, err error) {
	if errors.Is(err, context.Canceled) && clientLeft(r) {
		x.log.Err = err
		w.WriteHeader(h1.StatusClientLeft)
		return
	}
	if errors.Is(err, problem.Unauthenticated) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="cellway"`)
	}
	if f, ok := errors.AsType[h1.Fault](err); ok && !errors.Is(err, problem.BadGateway) { // of the client's body, not of the cell's answer
		rt.metrics.malformed.WithLabelValues(f.Reason()).Inc()
	}
	rt.metrics.refused.WithLabelValues(string(problem.KindOf(err))).Inc()
	front.Refused(r.Context())
	telemetry.Problem(w, r, source, err)
}

// clientLeft reports whether the client is gone. Deadlines of ours live in
// contexts below the request's.
func clientLeft(r *http.Request) bool { return r.Context().Err() != nil }

// hello answers who asks the base domain for nothing in particular.
func hello(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"service":"cellway","signup":"POST /signup"}` + "\n"))
}

// method is the request's, if it is a usual one: it becomes a span's name.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "_OTHER"
}
