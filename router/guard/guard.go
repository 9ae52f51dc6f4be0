// Package guard is what the edge refuses before it forwards: too many requests of
// a client's address, of a tenant or of a class of routes, too many at once, too
// large ones.
//
// It is asked with facts and answers with a verdict; it does no I/O, knows no
// *http.Request but where it looks into one ([Guard.Inspect], [Guard.ClientOf]), and allocates nothing
// where it has nothing to say and where it counts. What it holds to is a [Policy],
// swapped as a whole.
package guard

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Request is what a guard has to know of one.
type Request struct {
	Method string
	Path   string // decoded, with /t/{slug} if it has it
	Length int64  // of the body, as it was announced; -1: not known
	Tenant directory.TenantID
}

// A Verdict says whether a request may go on, and with what.
type Verdict struct {
	Err     error  // nil: it may
	Class   string // the route's name; "" is none
	MaxBody int64  // bytes of the body; 0: no limit of the guard's

	limit *limit // the one that is nearest to refusing; nil: none applies
	left  allowance
	place bucket // taken among the requests at once; limit 0: none
}

// A Guard decides by one policy at a time. It is safe for concurrent use.
type Guard struct {
	rules   atomic.Pointer[rules]
	buckets *buckets
	tenants *counts      // requests at once
	clients *counts      // requests at once, by address
	conns   *counts      // connections, by address
	open    atomic.Int64 // all of them
	bound   int64        // of open; 0: none
	metrics *metrics
	began   time.Time

	known known // issuers' tokens

	samples sampler // of requests that the WAF looks at without being waited for
	queue   chan sample
	bodies  *places // of tenants'
	signups *places
	said    [2]sampler // log lines, of the contract and of the WAF
}

// mostBuckets bounds the allowances that are kept: about 100 bytes each.
const mostBuckets = 1 << 18

// rules are a policy made ready to be asked. They are never changed.
type rules struct {
	trusted []netip.Prefix
	clients Clients
	client  *limit
	tiers   map[directory.TenantID]*tier // of tenants that are not in byDefault
	common  tier
	routes  []route           // the longest prefix first
	ids     map[string]uint32 // of routes' limits, by name, those of policies before among them
	issuers map[string]*issuer
	idle    bool   // nothing is refused
	looks   *looks // nil: no request is looked into
}

type tier struct {
	limit *limit
	most  int
}

type route struct {
	Route
	limit *limit
}

// New makes a Guard that refuses nothing until Use.
func New(reg prometheus.Registerer) *Guard {
	g := &Guard{buckets: newBuckets(mostBuckets), tenants: newCounts(), clients: newCounts(), conns: newCounts(), began: time.Now(), queue: make(chan sample, mostSamples), bodies: newPlaces(bodiesAtOnce(), bodiesOfOne()), signups: newPlaces(bodiesOfOne(), bodiesOfOne())}
	for _, s := range []*sampler{&g.samples, &g.said[0], &g.said[1]} {
		s.full.Store(-int64(time.Second)) // the clock begins at 0
	}
	g.metrics = newMetrics(reg, g)
	g.rules.Store(&rules{idle: true, ids: map[string]uint32{}})
	return g
}

// Use makes p what the guard holds to from now on. What has been used up of an
// allowance stays used up, as far as its new limit goes; a route's name says which it is.
func (g *Guard) Use(p Policy) error {
	if err := p.Validate(); err != nil {
		return err
	}
	trusted, err := prefixes(p.Trusted)
	if err != nil {
		return err
	}
	ru := &rules{trusted: trusted, clients: p.Clients, client: p.Clients.limit(ofClient, "client"), tiers: map[directory.TenantID]*tier{}, ids: maps.Clone(g.rules.Load().ids)}
	ru.common = newTier(p.Tiers["default"])
	for id, name := range p.Tenants {
		t := newTier(p.Tiers[name])
		ru.tiers[id] = &t
	}
	for _, r := range p.Routes {
		if _, known := ru.ids[r.Name]; !known {
			ru.ids[r.Name] = uint32(firstRoute + len(ru.ids))
		}
		ru.routes = append(ru.routes, route{Route: r, limit: r.limit(ru.ids[r.Name], r.Name)})
	}
	slices.SortStableFunc(ru.routes, func(a, b route) int { return len(b.Prefix) - len(a.Prefix) })
	before := g.rules.Load().issuers
	ru.issuers = issuersOf(p.Issuers, before, g.metrics.checked)
	if ru.looks, err = looksOf(&p, g.rules.Load().looks); err != nil {
		return err
	}
	ru.idle = ru.client == nil && ru.clients.Concurrent == 0 && len(ru.trusted)+len(p.Tiers)+len(ru.routes) == 0
	g.rules.Store(ru)
	for name, is := range before {
		if ru.issuers[name] != is {
			g.known.forget(is)
		}
	}
	return nil
}

func newTier(t Tier) tier { return tier{t.limit(ofTenant, "default"), t.Concurrent} }

// now is the guard's clock: nanoseconds, and never backwards.
func (g *Guard) now() int64 { return int64(time.Since(g.began)) }

// CheckClient asks for one request of an address, before anything else of the
// request is refused. An address that is a trusted hop's has no limit.
func (g *Guard) CheckClient(client netip.Addr) Verdict {
	v, reason := g.client(g.rules.Load(), client)
	return g.counted(v, reason)
}

func (g *Guard) client(ru *rules, client netip.Addr) (v Verdict, reason string) {
	if ru.client == nil && ru.clients.Concurrent == 0 || ru.trusts(client) {
		return v, ""
	}
	k := clientBucket(client)
	if ru.client != nil {
		k.limit = ru.client.id
		if v.charge(g, k, ru.client); v.Err != nil {
			return v, "client_rate"
		}
	}
	if most := ru.clients.Concurrent; most > 0 {
		k.limit = placeOfClient
		if !g.clients.enter(k, most) {
			g.back(clientBucket(client), ru.client)
			v.Err = tooMany("more than %d requests of this address at once", most, time.Second)
			return v, "client_concurrency"
		}
		v.place = k
	}
	return v, ""
}

// Check asks for one request of a tenant, once that is known. Whoever may go on
// must call Done in the end.
func (g *Guard) Check(r *Request) Verdict {
	v, reason := g.tenant(g.rules.Load(), r)
	return g.counted(v, reason)
}

// Idle reports whether the policy refuses nothing.
func (g *Guard) Idle() bool { return g.rules.Load().idle }

func (g *Guard) tenant(ru *rules, r *Request) (v Verdict, reason string) {
	var class *limit
	if at := ru.route(r.Method, r.Path); at != nil {
		v.Class, v.MaxBody = at.Name, at.MaxBody
		if at.MaxBody > 0 && r.Length > at.MaxBody {
			v.Err = problem.New(problem.TooLarge, "a body of %s is at most %d bytes", at.Name, at.MaxBody)
			return v, "body"
		}
		if class = at.limit; class != nil {
			if v.charge(g, tenantBucket(r.Tenant, class.id), class); v.Err != nil {
				return v, "route_rate"
			}
		}
	}
	t := ru.tierOf(r.Tenant)
	if t.limit != nil {
		if v.charge(g, tenantBucket(r.Tenant, t.limit.id), t.limit); v.Err != nil {
			g.back(tenantBucket(r.Tenant, 0), class)
			return v, "tenant_rate"
		}
	}
	if t.most > 0 {
		k := tenantBucket(r.Tenant, placeOfTenant)
		if !g.tenants.enter(k, t.most) {
			g.back(tenantBucket(r.Tenant, 0), class, t.limit)
			v.Err = tooMany("more than %d requests of this tenant at once", t.most, time.Second)
			return v, "tenant_concurrency"
		}
		v.place = k
	}
	return v, ""
}

// The limits that count requests, and those that count requests at once.
const (
	ofClient   = 1
	ofTenant   = 2
	firstRoute = 3

	placeOfTenant = 1 << 30
	placeOfClient = 1<<30 + 1
)

// Done gives back what a verdict took. It may be called for any, once.
func (g *Guard) Done(v Verdict) {
	switch v.place.limit {
	case placeOfTenant:
		g.tenants.leave(v.place)
	case placeOfClient:
		g.clients.leave(v.place)
	}
}

// charge takes one from an allowance, and keeps the one that is nearest to its end.
func (v *Verdict) charge(g *Guard, k bucket, l *limit) {
	a := g.buckets.take(k, l, g.now())
	if !a.ok {
		v.Err = tooMany("more than %d requests", l.burst, a.retry)
	}
	if v.limit == nil || !a.ok || a.remaining < v.left.remaining {
		v.limit, v.left = l, a
	}
}

// back gives back what was taken of k's allowances, of which those that are nil are none.
func (g *Guard) back(k bucket, limits ...*limit) {
	for _, l := range limits {
		if l != nil {
			k.limit = l.id
			g.buckets.back(k, l)
		}
	}
}

func tooMany(format string, n int, retry time.Duration) error {
	e := problem.New(problem.RateLimited, format, n)
	e.RetryAfter = max(retry, time.Millisecond)
	return e
}

// counted counts what a verdict refuses.
func (g *Guard) counted(v Verdict, reason string) Verdict {
	if v.Err != nil {
		g.metrics.refused.WithLabelValues(reason).Inc()
	}
	return v
}

func tenantBucket(t directory.TenantID, limit uint32) bucket {
	return bucket{of: uint64(t), kind: aTenant, limit: limit}
}

// tierOf is a tenant's limits.
func (ru *rules) tierOf(t directory.TenantID) *tier {
	if of, ok := ru.tiers[t]; ok {
		return of
	}
	return &ru.common
}

// route is the class of a request, nil where none matches.
func (ru *rules) route(method, path string) *route {
	if len(ru.routes) == 0 {
		return nil
	}
	path = withoutTenant(path)
	for i := range ru.routes {
		r := &ru.routes[i]
		if under(path, r.Prefix) && (len(r.Methods) == 0 || slices.Contains(r.Methods, method)) {
			return r
		}
	}
	return nil
}

// under reports whether path is prefix or below it.
func under(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/' || prefix[len(prefix)-1] == '/')
}

// withoutTenant takes a leading /t/{slug} off, as the cell does.
func withoutTenant(path string) string {
	rest, ok := strings.CutPrefix(path, "/t/")
	if !ok {
		return path
	}
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	return "/"
}
