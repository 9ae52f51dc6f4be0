package router

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/pool"
	"github.com/cellway/cellway/router/sign"
)

// A Relay is a Forwarder over our own HTTP/1.1 engine. It forwards what an
// Engine's server serves, and, with a head made anew, what another server does.
type Relay struct {
	pools  *pool.Pools[*pool.Upstreams]
	tracer trace.Tracer
}

// NewRelay makes a Relay.
func NewRelay(limits pool.Limits) *Relay {
	return &Relay{
		pools:  pool.New(limits, pool.NewUpstreams, func(ctx context.Context, u *pool.Upstreams, address string) error { return u.Ask(ctx, address) }),
		tracer: otel.Tracer("github.com/cellway/cellway/router"),
	}
}

// Close ends probes and drops the connections that are idle.
func (f *Relay) Close() { f.pools.Close((*pool.Upstreams).Close) }

// Describe implements prometheus.Collector.
func (f *Relay) Describe(ch chan<- *prometheus.Desc) { pool.Describe(ch) }

// Collect implements prometheus.Collector.
func (f *Relay) Collect(ch chan<- prometheus.Metric) { f.pools.Collect(ch) }

// Forward implements Forwarder.
func (f *Relay) Forward(w http.ResponseWriter, r *http.Request, to Target) error {
	p := f.pools.Of(to.Cell)
	u, err := p.Connections.At(to.Address)
	if err != nil {
		return err
	}
	slow, err := exchangeFrom(r.Context()).plan.placeIn(p, r, to)
	if err != nil {
		return err
	}
	o := outgoings.Get().(*outgoing)
	o.pool, o.to, o.request, o.left, o.slow = p, to, r, slow, slow
	defer o.free()
	ctx := r.Context()
	var span trace.Span
	if trace.SpanFromContext(ctx).IsRecording() {
		ctx, span = f.tracer.Start(ctx, "forward to "+string(to.Cell), trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(telemetry.CellKey.String(string(to.Cell)), telemetry.EpochKey.Int64(int64(to.Epoch))))
		defer span.End()
	}
	o.exchange = exchangeFrom(ctx)
	otel.GetTextMapPropagator().Inject(ctx, o)
	o.fill(r)
	err = u.Forward(w, r, &o.Outgoing)
	if err == nil {
		return nil
	}
	if span != nil {
		span.RecordError(err)
	}
	if err = relayError(err); fault(r, err) {
		p.Failed(to.Address)
	}
	return err
}

// relayError is what a failure of the relay means to the client.
func relayError(err error) error {
	if errors.Is(err, h1.ErrSlow) {
		return problem.Wrap(problem.RateLimited, h1.ErrSlow, "the client is slow, and the places for such at the owning cell are taken").After(pool.RetrySoon)
	}
	if _, ok := errors.AsType[h1.Fault](err); ok {
		return problem.Wrap(problem.BadGateway, err, "the owning cell's answer is not valid HTTP")
	}
	return cellError(err)
}

// An outgoing is what the relay adds to one request. It is a carrier for what
// the trace adds.
type outgoing struct {
	h1.Outgoing
	exchange *exchange
	pool     *pool.Pool[*pool.Upstreams]
	to       Target
	request  *http.Request

	mu   sync.Mutex
	left bool // the place for the request was given back
	slow bool // for one of a slow client
}

var outgoings = sync.Pool{New: func() any {
	o := &outgoing{}
	o.Drop, o.DropAnswer = o.drops, notForClients
	o.Misdirected = func(resp *http.Response) error { return sign.Refused(resp, o.request.Method) }
	o.Answered = o.answered
	o.Stream, o.Slow = o.stream, o.slowly
	o.Again = func() bool { return o.pool.Again() }
	return o
}}

// free gives back what the request had.
func (o *outgoing) free() {
	o.leave()
	clear(o.Fields)
	o.Fields, o.exchange, o.pool, o.to, o.request, o.left, o.slow = o.Fields[:0], nil, nil, Target{}, nil, false, false
	outgoings.Put(o)
}

func (o *outgoing) answered(d time.Duration, ok bool) {
	o.exchange.answered(d, ok)
	o.pool.Answered(d, ok, telling(o.request))
}

// leave gives back what place the request has, once.
func (o *outgoing) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.slow:
		o.pool.LeaveSlow(o.to.Tenant)
	case !o.left:
		o.pool.Release(o.to.Tenant)
	}
	o.left, o.slow = true, false
}

// slowly lets the request go on in a place for those of slow clients.
func (o *outgoing) slowly() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.left {
		o.left, o.slow = true, o.pool.Slow(o.to.Tenant)
		return o.slow
	}
	return true
}

// stream lets the answer go on in a place for streams, so that it takes none
// from requests.
func (o *outgoing) stream(end func(h1.Ending)) (done func(), err error) {
	p, tenant := o.pool, o.to.Entry.Tenant
	if err := p.TakeStream(tenant); err != nil {
		return nil, err
	}
	o.leave()
	o.exchange.streams = true
	ended := o.to.Streams(end)
	return func() {
		ended()
		p.LeaveStream(tenant)
	}, nil
}

// fill adds what the cell is told of the request.
func (o *outgoing) fill(r *http.Request) {
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if via := o.exchange.via; err == nil && via != "" {
		peer = via + ", " + peer
	}
	if err == nil {
		o.Set("X-Forwarded-For", peer)
	}
	o.Set("X-Forwarded-Host", r.Host)
	o.Set("X-Forwarded-Proto", proto(r.TLS))
	o.Set(telemetry.RequestIDHeader, r.Header.Get(telemetry.RequestIDHeader))
	if bearer := r.Header.Get(authorization); bearer != "" && o.exchange.kept {
		o.Set(authorization, bearer)
	}
	o.Set(token.AssertionHeader, o.to.Assertion)
	o.Set(token.TimeLeftHeader, token.TimeLeft(time.Until(o.to.Deadline)))
}

const authorization = "Authorization"

// drops reports whether a field of the head that was received ends here: also a
// credential that stays at the edge.
func (o *outgoing) drops(name string) bool { return dropping(o.exchange.kept)(name) }

// dropping is drops for a request whose credential stays here, or does not.
func dropping(kept bool) func(name string) bool {
	if kept {
		return notForCellsNorTheirs
	}
	return notForCells
}

// Set implements propagation.TextMapCarrier.
func (o *outgoing) Set(name, value string) {
	o.Fields = append(o.Fields, h1.Field{Name: name, Value: value})
}

// Get implements propagation.TextMapCarrier.
func (o *outgoing) Get(name string) string {
	for _, f := range o.Fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// Keys implements propagation.TextMapCarrier.
func (o *outgoing) Keys() []string {
	names := make([]string, 0, len(o.Fields))
	for _, f := range o.Fields {
		names = append(names, f.Name)
	}
	return names
}

var _ propagation.TextMapCarrier = (*outgoing)(nil)

// notForCells reports whether a request's header ends here.
func notForCells(name string) bool { return saysOrigin(name) || identify.Reserved(name) }

// notForCellsNorTheirs is notForCells where the credential is not for them either.
func notForCellsNorTheirs(name string) bool {
	return strings.EqualFold(name, authorization) || notForCells(name)
}
