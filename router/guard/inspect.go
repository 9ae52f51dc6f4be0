package guard

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/guard/openapi"
	"github.com/cellway/cellway/router/guard/waf"
)

// An Inspection is a request to look into.
type Inspection struct {
	Request *http.Request // its body is not read
	ID      string
	Client  netip.Addr
	Tenant  directory.TenantID
	Signup  bool   // it is a sign-up, of no tenant yet
	Body    []byte // the first part of it, or all
	Whole   bool   // it is all
	Log     *slog.Logger
}

// Inspects reports whether Inspect would look into such a request now: whoever can
// only forward must leave it to who asks.
func (g *Guard) Inspects(method, path string) bool {
	ru := g.rules.Load()
	if ru.looks == nil {
		return false
	}
	l, _ := ru.looksFor(method, path)
	return l.Contract != Off || l.WAF == Block || l.WAF == Detect && g.samples.due(g.now(), ru.looks.interval)
}

// InspectsSignup is Inspects for a sign-up.
func (g *Guard) InspectsSignup() bool {
	ru := g.rules.Load()
	return ru.looks != nil && ru.looks.signup.WAF != Off
}

// looksFor is what such a request is held against, and the name of its class.
func (ru *rules) looksFor(method, path string) (l Looks, class string) {
	l = ru.looks.general
	if at := ru.route(method, path); at != nil {
		l.Contract, l.WAF, l.InspectBody = at.Contract.or(l.Contract), at.WAF.or(l.WAF), at.InspectBody
		class = at.Name
	}
	return l, class
}

// Inspect looks into a request, where the policy says so, and refuses it where it
// says that, too.
func (g *Guard) Inspect(in *Inspection) error {
	ru := g.rules.Load()
	if ru.looks == nil {
		return nil
	}
	r := in.Request
	l, class := ru.looks.signup, signupClass
	if !in.Signup {
		l, class = ru.looksFor(r.Method, r.URL.Path)
	}
	if l.Contract == Off && l.WAF == Off {
		return nil
	}
	r = asSent(r)
	in.Request = r
	body, err := l.bodyOf(in)
	if err != nil {
		g.metrics.refused.WithLabelValues("inspect_body").Inc()
		return err
	}
	if l.Contract != Off {
		if err := g.checkContract(ru.looks.contract, l.Contract == Block, in, body); err != nil {
			return err
		}
	}
	if l.WAF == Off {
		return nil
	}
	s := sample{engine: ru.looks.waf, log: in.Log, id: in.ID, request: waf.Request{
		Method: r.Method, URI: r.URL.RequestURI(), Proto: r.Proto, Host: r.Host,
		Client: in.Client, Tenant: int64(in.Tenant), Route: class, Body: body,
	}}
	if l.WAF == Block {
		s.request.Fields = waf.FieldsOf(r)
		return g.block(r.Context(), &s, in.Signup)
	}
	if _, ok := g.samples.take(g.now(), ru.looks.interval); ok {
		s.request.Fields = waf.FieldsOf(r)
		select {
		case g.queue <- s:
			return nil
		default: // whoever looks does not keep up
		}
	}
	g.metrics.looked.WithLabelValues("skipped").Inc()
	return nil
}

// asSent is r without the fields that its Connection field names: they end here, and what
// is looked at is what the cell gets.
func asSent(r *http.Request) *http.Request {
	sent := r
	for _, line := range r.Header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.Trim(name, " \t"))
			if _, there := sent.Header[name]; !there || name == "Connection" {
				continue
			}
			if sent == r {
				with := *r
				with.Header = r.Header.Clone()
				sent = &with
			}
			delete(sent.Header, name)
		}
	}
	return sent
}

// bodyOf is the body to look into, nil for none. One that cannot be looked into is
// refused where anything is.
func (l Looks) bodyOf(in *Inspection) ([]byte, error) {
	if l.InspectBody == 0 {
		return nil, nil
	}
	block := l.Contract == Block || l.WAF == Block
	coded := slices.ContainsFunc(in.Request.Header.Values("Content-Encoding"), func(v string) bool { return v != "" && v != "identity" })
	switch {
	case coded && block:
		e := problem.New(problem.Invalid, "a body is looked into here: send it without Content-Encoding")
		e.Fields = []problem.Field{{Pointer: "header/Content-Encoding", Detail: "must be identity"}}
		return nil, e
	case (!in.Whole || len(in.Body) > l.InspectBody) && block:
		return nil, problem.New(problem.TooLarge, "a body is looked into here: it is at most %d bytes", l.InspectBody)
	case coded || !in.Whole || len(in.Body) > l.InspectBody:
		return nil, nil
	case in.Body == nil:
		return []byte{}, nil
	}
	return in.Body, nil
}

func (g *Guard) checkContract(c *openapi.Contract, block bool, in *Inspection, body []byte) error {
	err := c.Check(in.Request, withoutTenant(in.Request.URL.Path), body, body != nil)
	if err == nil {
		return nil
	}
	part := openapi.Part(err)
	if block {
		g.metrics.violations.WithLabelValues(part, "refused").Inc()
		g.metrics.refused.WithLabelValues("contract").Inc()
		return err
	}
	g.metrics.violations.WithLabelValues(part, "passed").Inc()
	g.say(&g.said[0], in.Log, "request against the contract", slog.String("request_id", in.ID), slog.String("tenant", in.Tenant.String()), slog.String("part", part))
	return nil
}

// A sample is a request that the WAF looks at.
type sample struct {
	engine  *waf.Engine
	log     *slog.Logger
	id      string
	request waf.Request
}

// mostSamples is how many wait to be looked at: at most 64 KB each, and a head.
const mostSamples = 64

// Watch looks at what the WAF is to detect, one request at a time, until ctx ends:
// clients do not wait for it, and it takes one core at most.
func (g *Guard) Watch(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-g.queue:
			g.detect(&s)
		}
	}
}

// detect judges a sample. Rules that do not stand what a client sends must not end
// the process: here no server recovers.
func (g *Guard) detect(s *sample) {
	defer func() {
		if v := recover(); v != nil {
			g.metrics.looked.WithLabelValues("failed").Inc()
			g.say(&g.said[1], s.log, "looking at a request panicked", slog.String("request_id", s.id), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		}
	}()
	_ = g.judge(s, false) // nobody waits for it
}

// block judges a request that waits for it.
func (g *Guard) block(ctx context.Context, s *sample, signup bool) error {
	if len(s.request.Body) == 0 {
		return g.judge(s, true)
	}
	places := g.bodies
	if signup { // anybody may: what they send keeps no tenant's body waiting
		places = g.signups
	}
	err := places.do(ctx, directory.TenantID(s.request.Tenant), func() error { return g.judge(s, true) })
	if errors.Is(err, errBusy) {
		g.metrics.refused.WithLabelValues("inspect_busy").Inc()
	}
	return err
}

// judge counts what the rules say, and refuses by it or logs it.
func (g *Guard) judge(s *sample, block bool) error {
	f := s.engine.Look(&s.request)
	if !f.Denied {
		g.metrics.looked.WithLabelValues("clean").Inc()
		return nil
	}
	groups := map[string]bool{}
	for _, id := range f.Rules {
		groups[waf.GroupOf(id)] = true
	}
	for name := range groups {
		g.metrics.findings.WithLabelValues(name).Inc()
	}
	outcome := "passed"
	if block {
		outcome = "refused"
		g.metrics.refused.WithLabelValues("waf").Inc()
	}
	g.metrics.looked.WithLabelValues(outcome).Inc()
	g.say(&g.said[1], s.log, "request denied by rules", slog.String("outcome", outcome), slog.String("request_id", s.id),
		slog.Int64("tenant", s.request.Tenant), slog.String("route", s.request.Route), slog.Any("rules", f.Rules))
	if block {
		return problem.New(problem.Forbidden, "the request looks like an attack; if it is none, tell the operator its request id")
	}
	return nil
}

// say logs at most one line a second, which says how many there were none for.
func (g *Guard) say(s *sampler, log *slog.Logger, what string, about ...slog.Attr) {
	unsaid, ok := s.take(g.now(), time.Second)
	if !ok {
		return
	}
	log.LogAttrs(context.Background(), slog.LevelWarn, what, append(about, slog.Int64("unsaid", unsaid))...)
}
