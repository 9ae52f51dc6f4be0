package router

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"go.opentelemetry.io/otel/trace"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/router/guard"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/pool"
)

// A direct serves the usual request without net/http's types: of a tenant that is
// known and active, whole when it was received. What it decides is decided by the
// handler's code. It takes nothing that the handler would hold, trace or serve
// otherwise than by forwarding, and gives back what turns out to be unusual, or has to
// wait for a place: then the handler goes on with what has been done. Of refusals it
// makes those that come in crowds, of the guard and of the cell's pool.
type direct struct {
	rt     *Router
	relay  *Relay
	traced traced
}

// newDirect is nil where every request needs the handler.
func newDirect(rt *Router) h1.Direct {
	relay, ok := rt.Forwarder.(*Relay)
	t := tracing(rt.tracer, rt.propagator.Fields())
	if !ok || t == sampled {
		return nil
	}
	return &direct{rt: rt, relay: relay, traced: t}
}

// A plan is what the router knows of a flight.
type plan struct {
	exchange
	head   identify.Head
	line   telemetry.Line
	pool   *pool.Pool[*pool.Upstreams]
	placed bool       // in the pool
	slow   bool       // there, among slow clients
	turn   *pool.Turn // in the queue for a place, nil: none
	guard  *guard.Guard
	first  guard.Verdict // of the client's address
	second guard.Verdict // of the tenant
	said   guard.Verdict // what the client is told of

	id     string // of the request
	parent string // traceparent towards both sides, "" where there is none
	traced bool   // the caller sent one

	priority, accept string // the fields
	bearer           string // of kept: what the cell gets instead; "" is nothing

	peer     netip.Addr // of the flights so far, which are mostly of one connection
	peerText string

	// What the strings are made of, kept from flight to flight.
	idText, parentText, tenantText, limitText, userText, assertText []byte
}

// planOf is the plan that the flight keeps.
func planOf(f *h1.Flight) *plan {
	if p, ok := f.State.(*plan); ok {
		return p
	}
	p := &plan{}
	p.log = &p.line.Request
	f.State, f.DropAnswer = p, notForClients
	f.Answered, f.Slow = p.answered, p.slowly
	return p
}

// Take implements h1.Direct.
func (d *direct) Take(f *h1.Flight) h1.Course {
	rt, q, p := d.rt, f.Request, planOf(f)
	path, _, _ := strings.Cut(q.Target(), "?")
	if path == "" || path[0] != '/' || strings.IndexByte(path, '%') >= 0 || rt.MaxBody > 0 && int64(q.Length()) > rt.MaxBody || rt.misdirected(f.TLS, q.Host()) != nil {
		return h1.ByHandler
	}
	p.begin(f.Began)
	p.head.Reset(q.Method(), q.Host(), path, path)
	if !d.read(p, q) {
		return h1.ByHandler
	}
	// A token that is not known yet is the handler's to verify: nobody else waits for
	// that, and a refusal is counted once.
	decision := rt.decide(&p.head, rt.Table.View(), (*identify.Chain).Recall)
	if decision.Verdict != Forward || decision.Waived || rt.holds.waiting(decision.Entry) {
		return h1.ByHandler
	}
	var err error
	if p.assertText, err = rt.assertions.AppendTo(p.assertText[:0], decision.Entry, f.Began); err != nil {
		return h1.ByHandler
	}
	if decision.Kept {
		if p.bearer, err = rt.bearers.Of(decision.Claims, decision.Entry.Cell, f.Began); err != nil {
			return h1.ByHandler
		}
	}
	f.Drop = dropping(decision.Kept)
	p.pool = d.relay.pools.Of(decision.Entry.Cell)
	if f.To, err = p.pool.Connections.At(decision.Entry.Address); err != nil {
		return h1.ByHandler
	}
	p.line.Method, p.line.Path = p.head.Method, path
	passes, err := d.admit(f, p, &decision)
	if !passes {
		return h1.ByHandler
	}
	f.Timeout = rt.CellTimeout
	d.say(f, p)
	if err == nil {
		p.turn, err = p.pool.Enter(p.entry.Tenant, q.Method(), p.priority, p.accept, p.entry.Address, f.Began.Add(rt.CellTimeout))
	}
	switch {
	case err != nil:
		d.refuse(f, p, err)
		return h1.Refused
	case p.turn != nil:
		return h1.Waits
	}
	p.placed = true
	return h1.Flies
}

// refuse makes the answer to a request that is refused, as the handler would.
func (d *direct) refuse(f *h1.Flight, p *plan, err error) {
	where := problem.Where{Source: source, RequestID: p.id, Instance: p.line.Path}
	if p.parent != "" {
		where.TraceID = p.parent[3:35]
	}
	a := problem.Make(err, where)
	f.Status, f.Text = a.Status, a.Body
	f.Reply = append(f.Reply, h1.Field{Name: "Content-Type", Value: problem.ContentType}, h1.Field{Name: "Cache-Control", Value: "no-store"})
	if a.RetryAfter != "" {
		f.Reply = append(f.Reply, h1.Field{Name: "Retry-After", Value: a.RetryAfter})
	}
	p.log.Err = err
	d.rt.metrics.refused.WithLabelValues(string(problem.KindOf(err))).Inc()
}

// begin forgets the flight before.
func (p *plan) begin(now time.Time) {
	p.leave() // of a flight that panicked
	p.release()
	p.exchange = exchange{began: now, log: &p.line.Request}
	p.first, p.second, p.said = guard.Verdict{}, guard.Verdict{}, guard.Verdict{}
	p.line.Request = telemetry.Request{}
	p.id, p.parent, p.traced, p.priority, p.accept, p.bearer = "", "", false, "", "", ""
}

// read takes in the request's fields; false where one needs the handler.
func (d *direct) read(p *plan, q *h1.Request) bool {
	ids := false
	for i := range q.Len() {
		name, value := q.Name(i), q.Value(i)
		p.head.Add(name, value)
		switch len(name) {
		case len("Priority"):
			if strings.EqualFold(name, "Priority") {
				p.priority = value
			}
		case len("Accept"):
			if strings.EqualFold(name, "Accept") {
				p.accept = value
			}
		case len(telemetry.RequestIDHeader):
			if !ids && strings.EqualFold(name, telemetry.RequestIDHeader) {
				ids, p.id = true, telemetry.CallersID(value)
			}
		case len("traceparent"):
			if d.traced == numbered && strings.EqualFold(name, "traceparent") {
				if p.traced || !plainParent(value) {
					return false
				}
				p.traced, p.parent = true, value
			}
		case len("tracestate"), len("baggage"):
			if d.traced == numbered && (strings.EqualFold(name, "tracestate") || strings.EqualFold(name, "baggage")) {
				return false
			}
		}
	}
	return true
}

// answered notes it for the request and for the cell.
func (p *plan) answered(took time.Duration, ok bool) {
	p.exchange.answered(took, ok)
	p.pool.Answered(took, ok, true)
}

// know takes over what was decided, as exchange.know.
func (p *plan) know(d *Decision) {
	p.source, p.kept, p.claims, p.shown, p.entry = d.Source, d.Kept, d.Claims, d.Credential(), d.Entry
	if d.Claims != nil {
		p.userText = telemetry.AppendUser(p.userText[:0], d.Claims.Subject)
		p.log.UserHash = text(p.userText)
	}
	p.tenantText = strconv.AppendInt(p.tenantText[:0], int64(d.Entry.Tenant), 10)
	p.log.Tenant, p.log.Cell, p.log.Epoch = text(p.tenantText), string(d.Entry.Cell), int64(d.Entry.Epoch)
}

// say adds what the cell and the client are told.
func (d *direct) say(f *h1.Flight, p *plan) {
	if p.id == "" {
		p.idText = telemetry.AppendID(p.idText[:0])
		p.id = text(p.idText)
	}
	p.log.ID = p.id
	f.Fields, f.Reply = f.Fields[:0], append(f.Reply[:0], h1.Field{Name: telemetry.RequestIDHeader, Value: p.id})
	if d.traced == numbered {
		p.parentText = appendParent(p.parentText[:0], p.parent)
		p.parent = text(p.parentText)
		f.Reply = append(f.Reply, h1.Field{Name: "Traceparent", Value: p.parent})
		f.Fields = append(f.Fields, h1.Field{Name: "traceparent", Value: p.parent})
	}
	if p.said.Limited() {
		p.limitText = p.said.AppendLeft(p.limitText[:0])
		f.Reply = append(f.Reply, h1.Field{Name: "RateLimit-Policy", Value: p.said.Policy()}, h1.Field{Name: "RateLimit", Value: text(p.limitText)})
	}
	if f.Peer != "" {
		f.Fields = append(f.Fields, h1.Field{Name: "X-Forwarded-For", Value: f.Peer})
	}
	f.Fields = append(f.Fields, h1.Field{Name: "X-Forwarded-Host", Value: p.head.Host}, h1.Field{Name: "X-Forwarded-Proto", Value: proto(f.TLS)},
		h1.Field{Name: telemetry.RequestIDHeader, Value: p.id}, h1.Field{Name: token.AssertionHeader, Value: text(p.assertText)},
		h1.Field{Name: token.TimeLeftHeader, Value: token.TimeLeft(d.rt.CellTimeout)})
	if p.bearer != "" {
		f.Fields = append(f.Fields, h1.Field{Name: authorization, Value: p.bearer})
	}
}

// Done implements h1.Direct.
func (d *direct) Done(f *h1.Flight) {
	p := f.State.(*plan) // Take put it there
	p.leave()
	p.release()
	took := time.Since(p.began)
	d.rt.metrics.done(&p.exchange, f.Status, took)
	l := &p.line
	l.Status, l.Bytes, l.Took = f.Status, f.Bytes, took
	if f.Err != nil {
		l.Err = f.Err
	}
	l.Log(d.rt.Log)
}

// admit asks the guard, which refuses the request where err is not nil: before p knows
// what was decided, where the client's address is why. What the guard looks into, and what
// a trusted hop has sent, is the handler's: it passes nothing.
func (d *direct) admit(f *h1.Flight, p *plan, decided *Decision) (passes bool, err error) {
	g := d.rt.Guard
	p.maxBody = d.rt.MaxBody
	if g.Inspects(p.head.Method, p.line.Path) {
		return false, nil
	}
	if g.Idle() {
		p.know(decided)
		return true, nil
	}
	if f.Peer != p.peerText {
		if p.peer, err = netip.ParseAddr(f.Peer); err != nil {
			return false, nil
		}
		p.peerText = f.Peer
	}
	if g.Trusts(p.peer) {
		return false, nil
	}
	p.guard, p.first = g, g.CheckClient(p.peer)
	if p.said = p.first; p.first.Err != nil {
		return true, p.first.Err
	}
	p.know(decided)
	p.second = g.Check(&guard.Request{Method: p.head.Method, Path: p.line.Path, Length: int64(f.Request.Length()), Tenant: p.entry.Tenant})
	if p.said = p.second; p.second.Err != nil {
		return true, p.second.Err
	}
	p.said = p.second.Tighter(p.first)
	p.maxBody = least(p.maxBody, p.second.MaxBody)
	return true, nil
}

// release gives back what the guard counts, once.
func (p *plan) release() {
	if p.guard != nil {
		p.guard.Done(p.first)
		p.guard.Done(p.second)
		p.guard = nil
	}
}

// slowly lets the flight's answer go on in a place for those of slow clients.
func (p *plan) slowly() bool {
	if p.placed {
		p.placed, p.slow = false, p.pool.Slow(p.entry.Tenant)
		return p.slow
	}
	return true
}

// leave gives the flight's place back, or that in the queue, once.
func (p *plan) leave() {
	if p.slow {
		p.slow = false
		p.pool.LeaveSlow(p.entry.Tenant)
	}
	if p.placed {
		p.placed = false
		p.pool.Release(p.entry.Tenant)
	}
	if p.turn != nil {
		p.pool.Abandon(p.turn)
		p.turn = nil
	}
}

// placeIn takes the request's place in a cell's pool: what the flight, if it was one, has
// of it is the request's from now on. It may be one of slow clients.
func (p *plan) placeIn(in *pool.Pool[*pool.Upstreams], r *http.Request, to Target) (slow bool, err error) {
	switch {
	case p == nil || p.pool != in || !p.placed && !p.slow && p.turn == nil:
		return false, in.Acquire(r, to.Tenant, to.Address, to.Deadline)
	case p.placed || p.slow:
		slow, p.placed, p.slow = p.slow, false, false
		return slow, nil
	}
	turn := p.turn
	p.turn = nil
	return false, in.Await(r.Context(), turn)
}

// takenOver is the plan of the flight that r was, nil where it was none. Its text
// is copied: the handler may read over what it was part of.
func takenOver(w http.ResponseWriter) *plan {
	f := h1.TakenOver(w)
	if f == nil {
		return nil
	}
	p := f.State.(*plan)
	p.id, p.parent, p.log.UserHash = strings.Clone(p.id), strings.Clone(p.parent), strings.Clone(p.log.UserHash)
	p.shown.ID = strings.Clone(p.shown.ID)
	return p
}

// continued lets the handler go on under the names that a flight has begun with.
func continued(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := takenOver(w); p != nil {
			defer p.leave() // if nobody else does
			defer p.release()
			r.Header.Set(telemetry.RequestIDHeader, p.id)
			if p.parent != "" {
				r.Header.Set("Traceparent", p.parent)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// traced says what a trace costs a request.
type traced int

const (
	untraced traced = iota // nothing is passed on
	numbered               // ids are passed on, no span is kept
	sampled                // spans are kept
)

// tracing asks the tracer for a span that every sampler takes but the one that
// takes none.
func tracing(t trace.Tracer, fields []string) traced {
	asked := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled, Remote: true})
	_, span := t.Start(trace.ContextWithRemoteSpanContext(context.Background(), asked), "probe")
	defer span.End()
	switch {
	case span.IsRecording():
		return sampled
	case slices.Contains(fields, "traceparent") && span.SpanContext().SpanID() != asked.SpanID():
		return numbered
	case len(fields) > 0:
		return sampled // propagators that we do not know
	}
	return untraced
}

// plainParent reports whether a traceparent is one that every reader takes.
func plainParent(s string) bool {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52:54] != "-0" || s[54] != '0' && s[54] != '1' {
		return false
	}
	zero := true
	for i, c := range []byte(s[3:52]) {
		switch {
		case i == 32:
			if zero {
				return false
			}
			zero = true
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		case c != '0':
			zero = false
		}
	}
	return !zero
}

// appendParent appends a traceparent for a span of ours that is not sampled, in
// the trace of parent if there is one.
func appendParent(dst []byte, parent string) []byte {
	dst = append(dst, "00-"...)
	if parent != "" {
		dst = append(dst, parent[3:35]...)
	} else {
		dst = telemetry.AppendHex(telemetry.AppendHex(dst, rand.Uint64()|1, 16), rand.Uint64(), 16) //nolint:gosec // unique, and no secret
	}
	dst = telemetry.AppendHex(append(dst, '-'), rand.Uint64()|1, 16) //nolint:gosec // as above
	return append(dst, "-00"...)
}

// text is b as a string, until b is written to.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
