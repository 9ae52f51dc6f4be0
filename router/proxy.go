package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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
	"github.com/cellway/cellway/router/streams"
)

// A Proxy is a Forwarder over net/http's ReverseProxy, with connections and a
// limit on requests per cell.
type Proxy struct {
	pools   *pool.Pools[*cellTransport]
	reverse httputil.ReverseProxy
	tracer  trace.Tracer
}

// NewProxy makes a Proxy.
func NewProxy(limits pool.Limits, log *slog.Logger) *Proxy {
	p := &Proxy{pools: pool.New(limits, newCellTransport, askOver), tracer: otel.Tracer("github.com/cellway/cellway/router")}
	p.reverse = httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      roundTripper(p.roundTrip),
		ModifyResponse: modifyResponse,
		ErrorHandler:   func(_ http.ResponseWriter, r *http.Request, err error) { forwardingOf(r.Context()).err = err },
		BufferPool:     newBuffers(),
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return p
}

// Close ends probes and drops the connections that are idle.
func (p *Proxy) Close() { p.pools.Close((*cellTransport).CloseIdleConnections) }

// Describe implements prometheus.Collector.
func (p *Proxy) Describe(ch chan<- *prometheus.Desc) { pool.Describe(ch) }

// Collect implements prometheus.Collector.
func (p *Proxy) Collect(ch chan<- prometheus.Metric) { p.pools.Collect(ch) }

// askOver asks the cell at address whether it is there.
func askOver(ctx context.Context, t *cellTransport, address string) error {
	base, err := url.Parse(address)
	if err != nil {
		return err
	}
	r := &http.Request{
		Method: http.MethodOptions, Host: base.Host, Header: http.Header{}, Close: true,
		URL: &url.URL{Scheme: base.Scheme, Host: base.Host, Opaque: "*"},
	}
	resp, err := t.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// A forwarding is one Forward, as the functions of the ReverseProxy need it.
type forwarding struct {
	to    Target
	w     http.ResponseWriter
	base  *url.URL
	pool  *pool.Pool[*cellTransport]
	leave func()       // gives the place for the request back, once
	said  atomic.Int32 // 1xx answers
	cell  io.Closer    // its connection, where it has switched protocols
	err   error
}

// maxInterim is how many 1xx answers there may be before the answer: net/http has
// no bound where somebody listens to them, as ReverseProxy does.
const maxInterim = 8

var errTooManyInterim = errors.New("too many 1xx answers")

// interim counts a 1xx answer.
func (f *forwarding) interim(int, textproto.MIMEHeader) error {
	if f.said.Add(1) > maxInterim {
		return errTooManyInterim
	}
	return nil
}

type forwardingKey struct{}

func forwardingOf(ctx context.Context) *forwarding {
	return ctx.Value(forwardingKey{}).(*forwarding) // Forward put it there
}

// Forward implements Forwarder.
func (p *Proxy) Forward(w http.ResponseWriter, r *http.Request, to Target) error {
	base, err := url.Parse(to.Address)
	if err != nil || base.Host == "" {
		return pool.Unavailable(err, "the owning cell's address is not valid")
	}
	f := &forwarding{to: to, w: w, base: base, pool: p.pools.Of(to.Cell), cell: http.NoBody}
	if err := f.pool.Acquire(r, to.Tenant, to.Address, to.Deadline); err != nil {
		return err
	}
	f.leave = sync.OnceFunc(func() { f.pool.Release(to.Tenant) })
	defer f.leave()
	defer func() { _ = f.cell.Close() }() // ReverseProxy forgets it where it refuses the switch
	ctx, span := p.tracer.Start(r.Context(), "forward to "+string(to.Cell), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(telemetry.CellKey.String(string(to.Cell)), telemetry.EpochKey.Int64(int64(to.Epoch))))
	defer span.End()
	ctx = httptrace.WithClientTrace(context.WithValue(ctx, forwardingKey{}, f), &httptrace.ClientTrace{Got1xxResponse: f.interim})
	out := &facing{w, w.Header().Clone(), !r.ProtoAtLeast(1, 1)}
	p.reverse.ServeHTTP(out, r.WithContext(ctx))
	if f.err != nil {
		out.restore()
		if f.said.Load() > maxInterim { // net/http tells of the body instead, where a part of it was yet to be sent
			f.err = errTooManyInterim
		}
		span.RecordError(f.err)
		err := cellError(f.err)
		if fault(r, err) {
			f.pool.Failed(to.Address)
		}
		return err
	}
	dropOurs(w.Header()) // of trailers, those that were not announced
	return nil
}

// fault reports whether err is the cell's: it did not answer r, or not in HTTP.
func fault(r *http.Request, err error) bool {
	return awaited(r) && (errors.Is(err, problem.CellUnavailable) && !errors.Is(err, pool.ErrNoStream) || errors.Is(err, problem.BadGateway))
}

// awaited reports whether r's client still waits for it. Where the context ended
// because the cell's time was over, that is the cell's doing and not the client's.
func awaited(r *http.Request) bool {
	cause := context.Cause(r.Context())
	return cause == nil || errors.Is(cause, context.DeadlineExceeded)
}

// rewrite makes the request for the cell of the client's: host, path and query
// as they were received; what says where it came from is ours; the assertion
// last, after hop-by-hop headers are gone.
func (p *Proxy) rewrite(pr *httputil.ProxyRequest) {
	f := forwardingOf(pr.In.Context())
	out := pr.Out
	out.URL.Scheme, out.URL.Host = f.base.Scheme, f.base.Host
	out.URL.RawQuery = pr.In.URL.RawQuery // to the byte; ReverseProxy cleans it
	// A trailer would have what was not declared, too, and so not checked.
	out.Host, out.Trailer = pr.In.Host, nil
	setForwarded(pr)
	x := exchangeFrom(pr.In.Context())
	if x.via != "" {
		out.Header.Set("X-Forwarded-For", x.via+", "+out.Header.Get("X-Forwarded-For"))
	}
	if !socketAsked(pr.In) { // what else is offered a cell may choose
		out.Header.Del("Connection")
		out.Header.Del("Upgrade")
	}
	// What is ours reaches the cell also where the client's Connection field has named it.
	out.Header.Set(telemetry.RequestIDHeader, pr.In.Header.Get(telemetry.RequestIDHeader))
	if bearer := pr.In.Header.Get(authorization); bearer != "" && x.kept {
		out.Header.Set(authorization, bearer)
	}
	otel.GetTextMapPropagator().Inject(out.Context(), propagation.HeaderCarrier(out.Header))
	out.Header.Set(token.AssertionHeader, f.to.Assertion)
	out.Header.Set(token.TimeLeftHeader, token.TimeLeft(time.Until(f.to.Deadline)))
}

// setForwarded replaces whatever the client said of who it is.
func setForwarded(pr *httputil.ProxyRequest) {
	for name := range pr.Out.Header {
		if saysOrigin(name) {
			delete(pr.Out.Header, name)
		}
	}
	pr.SetXForwarded()
}

// saysOrigin reports whether a request's header says where it came from, which
// only the router knows.
func saysOrigin(name string) bool {
	const family = "x-forwarded-"
	return len(name) >= len(family) && identify.SameName(name[:len(family)], family) || identify.SameName(name, "forwarded") ||
		identify.SameName(name, "x-real-ip") || identify.SameName(name, "true-client-ip")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (*Proxy) roundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	p := forwardingOf(r.Context()).pool
	resp, err := p.Connections.RoundTrip(r)
	took := time.Since(began)
	exchangeFrom(r.Context()).answered(took, err == nil)
	p.Answered(took, err == nil, telling(r))
	return resp, err
}

// modifyResponse keeps back what is not for clients: that the cell refuses the router's
// word, which makes the ReverseProxy stop here with nothing written, and headers of ours.
func modifyResponse(resp *http.Response) error {
	if resp.StatusCode == http.StatusMisdirectedRequest {
		return sign.Refused(resp, resp.Request.Method)
	}
	dropOurs(resp.Header)
	dropOurs(resp.Trailer) // those that are announced
	f := forwardingOf(resp.Request.Context())
	cell, ok := resp.Body.(io.ReadWriteCloser)
	if ok && resp.StatusCode == http.StatusSwitchingProtocols {
		f.cell = cell
		if webSocket(resp.Header) && webSocket(resp.Request.Header) {
			return f.tunnel(resp, cell)
		}
	} else if streams.Is(resp.Header) {
		return f.stream(resp)
	}
	return nil
}

func webSocket(h http.Header) bool { return identify.SameName(h.Get("Upgrade"), "websocket") }

// socketAsked reports whether r asks for a WebSocket as h1 takes it.
func socketAsked(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) && (r.Body == nil || r.Body == http.NoBody) && webSocket(r.Header)
}

// tunnel is stream for a WebSocket.
func (f *forwarding) tunnel(resp *http.Response, cell io.ReadWriteCloser) error {
	tenant := f.to.Entry.Tenant
	if err := f.pool.TakeStream(tenant); err != nil {
		return err
	}
	f.leave()
	exchangeFrom(resp.Request.Context()).streams = true
	x := streams.NewTunnel(cell, http.NewResponseController(f.w))
	done := f.to.Streams(x.End)
	x.Done(func() {
		done()
		f.pool.LeaveStream(tenant)
	})
	resp.Body, f.cell = x, x
	return nil
}

// stream lets the answer go on: in a place for streams, so that it takes none
// from requests, and without the deadlines that those have.
func (f *forwarding) stream(resp *http.Response) error {
	tenant := f.to.Entry.Tenant
	if err := f.pool.TakeStream(tenant); err != nil {
		return err
	}
	f.leave()
	exchangeFrom(resp.Request.Context()).streams = true
	body, err := streams.NewBody(f.w, resp.Body)
	if err != nil {
		f.pool.LeaveStream(tenant)
		return fmt.Errorf("lift deadlines: %w", err)
	}
	done := f.to.Streams(body.End)
	body.Done(func() {
		done()
		f.pool.LeaveStream(tenant)
	})
	resp.Body = body
	return nil
}

// dropOurs takes out of an answer's header or trailers what is the router's to set.
func dropOurs(h http.Header) {
	for name := range h {
		if notForClients(strings.TrimPrefix(name, http.TrailerPrefix)) {
			delete(h, name)
		}
	}
}

// notForClients reports whether an answer's header is the router's to set.
func notForClients(name string) bool {
	return identify.Reserved(name) || strings.EqualFold(name, telemetry.RequestIDHeader) || strings.EqualFold(name, "Traceparent")
}

// cellError is what a failure of the round trip means to the client.
func cellError(err error) error {
	if errors.Is(err, h1.ErrNoFiles) {
		return problem.Wrap(problem.Unavailable, err, "the router has no connection to a cell to spare").After(pool.RetrySoon)
	}
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.Contains(err.Error(), "server closed idle connection") { // net/http does not export it
		return pool.Unavailable(err, "the owning cell does not answer")
	}
	if _, ok := errors.AsType[*problem.Error](err); ok || errors.Is(err, problem.Stale) || errors.Is(err, context.Canceled) {
		return err
	}
	return problem.Wrap(problem.BadGateway, err, "the owning cell's answer is not valid HTTP")
}
