package guard

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

func newGuard(tb testing.TB, policy string) *Guard {
	tb.Helper()
	g := New(prometheus.NewRegistry())
	p, err := Parse([]byte(policy))
	if err == nil {
		err = g.Use(p)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

// TestBuckets: a burst at once, then one per interval; what is left and when it
// is full again is what the headers say.
func TestBuckets(t *testing.T) {
	t.Parallel()
	b := newBuckets(64)
	l := Rate{Requests: 10, Window: 10 * time.Second, Burst: 3}.limit(1, "x")
	second := int64(time.Second)
	for _, tt := range []struct {
		at   int64
		want allowance
	}{
		{0, allowance{ok: true, remaining: 2, reset: time.Second}},
		{0, allowance{ok: true, remaining: 1, reset: 2 * time.Second}},
		{0, allowance{ok: true, remaining: 0, reset: 3 * time.Second}},
		{0, allowance{reset: 3 * time.Second, retry: time.Second}},
		{second - 1, allowance{reset: 2*time.Second + 1, retry: 1}},
		{second, allowance{ok: true, remaining: 0, reset: 3 * time.Second}},
		{9 * second, allowance{ok: true, remaining: 2, reset: time.Second}},
		{8 * second, allowance{ok: true, remaining: 0, reset: 3 * time.Second}}, // a clock that went back gives nothing away
	} {
		if got := b.take(bucket{of: 7}, l, tt.at); got != tt.want {
			t.Errorf("at %v: got %+v, want %+v", time.Duration(tt.at), got, tt.want)
		}
	}
	if got := b.take(bucket{of: 8}, l, 0); got.remaining != 2 {
		t.Errorf("another's bucket: got %+v", got)
	}
}

// TestAShorterLimitUnlocks: who has used up a long limit waits for the one that is
// in force now, from the first time it asks.
func TestAShorterLimitUnlocks(t *testing.T) {
	t.Parallel()
	b := newBuckets(64)
	long, short := Rate{Requests: 1, Window: 24 * time.Hour}.limit(2, "x"), Rate{Requests: 2, Window: 2 * time.Second}.limit(2, "x")
	b.take(bucket{of: 7}, long, 0)
	second := int64(time.Second)
	for _, tt := range []struct {
		at   int64
		want allowance
	}{
		{0, allowance{reset: 2 * time.Second, retry: time.Second}},
		{second / 2, allowance{reset: 3 * time.Second / 2, retry: time.Second / 2}},
		{second, allowance{ok: true, remaining: 0, reset: 2 * time.Second}},
	} {
		if got := b.take(bucket{of: 7}, short, tt.at); got != tt.want {
			t.Errorf("at %v: got %+v, want %+v", time.Duration(tt.at), got, tt.want)
		}
	}
}

// TestARouteKeepsItsAllowances: where it stands in the file means nothing.
func TestARouteKeepsItsAllowances(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "routes: [{name: exports, prefix: /exports, requests: 1, window: 24h}]")
	use := func(policy string) {
		t.Helper()
		p, err := Parse([]byte(policy))
		if err == nil {
			err = g.Use(p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ask := func(path string) error { return g.Check(&Request{Method: "GET", Path: path, Tenant: 1}).Err }
	if err := ask("/exports"); err != nil {
		t.Fatal(err)
	}
	use("routes: [{name: reads, prefix: /reads, requests: 1, window: 24h}, {name: exports, prefix: /exports, requests: 1, window: 24h}]")
	if err := ask("/reads"); err != nil {
		t.Errorf("a route that was put above another one: %v", err)
	}
	use("routes: [{name: writes, prefix: /writes, requests: 1, window: 24h}]")
	if err := ask("/writes"); err != nil {
		t.Errorf("a route in the place of others: %v", err)
	}
	use("routes: [{name: exports, prefix: /exports, requests: 1, window: 24h}]")
	if ask("/exports") == nil {
		t.Error("what has been used up came back with the route")
	}
}

// TestBucketsAreBounded: any number of owners takes the memory of the bound.
func TestBucketsAreBounded(t *testing.T) {
	t.Parallel()
	b := newBuckets(64 * 32)
	l := Rate{Requests: 1, Window: time.Second}.limit(1, "x")
	for n := range uint64(100_000) {
		b.take(bucket{of: n}, l, int64(n)*1000)
	}
	if got := b.len(); got > 64*32 {
		t.Errorf("got %d buckets, want at most %d", got, 64*32)
	}
}

func TestTiersAndRoutes(t *testing.T) {
	t.Parallel()
	g := newGuard(t, `
tiers:
  default: {requests: 2, window: 1h}
  gold: {requests: 5, window: 1h}
tenants: {7: gold}
routes:
  - {name: exports, prefix: /v1/exports, methods: [POST], requests: 1, window: 1h, max_body: 10}
  - {name: all, prefix: /v1, max_body: 1000}
`)
	count := func(tenant directory.TenantID, method, path string, n int) (ok int, last Verdict) {
		for range n {
			if v := g.Check(&Request{Method: method, Path: path, Tenant: tenant}); v.Err == nil {
				ok++
			} else {
				last = v
			}
		}
		return ok, last
	}
	if ok, v := count(1, "GET", "/x", 4); ok != 2 || !errors.Is(v.Err, problem.RateLimited) {
		t.Errorf("default tier: %d of 4, %v", ok, v.Err)
	}
	if ok, _ := count(7, "GET", "/x", 9); ok != 5 {
		t.Errorf("gold tier: %d of 9, want 5", ok)
	}
	if ok, v := count(2, "POST", "/t/bolt/v1/exports/3", 2); ok != 1 || v.Class != "exports" {
		t.Errorf("route: %d of 2, class %q", ok, v.Class)
	}
	var e *problem.Error
	if _, v := count(2, "POST", "/v1/exports", 1); !errors.As(v.Err, &e) || e.RetryAfter <= 59*time.Minute {
		t.Errorf("retry after: got %+v", e)
	}
	for _, tt := range []struct {
		method, path string
		length       int64
		class        string
		ok           bool
	}{
		{"POST", "/v1/exports", 11, "exports", false},
		{"GET", "/v1/exports", 11, "all", true},
		{"GET", "/v1/exportsx", 1001, "all", false},
		{"GET", "/v1", 1, "all", true},
		{"GET", "/v10", 1 << 20, "", true},
		{"GET", "/t/acme", 1 << 20, "", true},
	} {
		v := g.Check(&Request{Method: tt.method, Path: tt.path, Length: tt.length, Tenant: 100 + directory.TenantID(tt.length)})
		if v.Class != tt.class || (v.Err == nil) != tt.ok {
			t.Errorf("%s %s of %d bytes: got class %q, %v", tt.method, tt.path, tt.length, v.Class, v.Err)
		}
	}
}

// TestConcurrency: places are given back, and a policy that comes meanwhile
// neither loses nor doubles one.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "tiers: {default: {concurrent: 2}}\nclients: {concurrent: 1}")
	r := &Request{Tenant: 1}
	one, two, three := g.Check(r), g.Check(r), g.Check(r)
	if one.Err != nil || two.Err != nil || !errors.Is(three.Err, problem.RateLimited) {
		t.Fatalf("got %v, %v, %v", one.Err, two.Err, three.Err)
	}
	g.Done(three)
	if v := g.Check(&Request{Tenant: 2}); v.Err != nil {
		t.Errorf("another tenant pays: %v", v.Err)
	}
	if err := g.Use(Policy{}); err != nil {
		t.Fatal(err)
	}
	g.Done(one)
	g.Done(two)
	addr := netip.MustParseAddr("192.0.2.1")
	if v := g.CheckClient(addr); v.Err != nil {
		t.Error(v.Err)
	}
	if err := g.Use(Policy{Clients: Clients{Concurrent: 1}}); err != nil {
		t.Fatal(err)
	}
	v := g.CheckClient(addr)
	if w := g.CheckClient(addr); v.Err != nil || !errors.Is(w.Err, problem.RateLimited) {
		t.Errorf("an address's requests: %v, %v", v.Err, w.Err)
	}
	g.Done(v)
	if n := g.tenants.owners() + g.clients.owners(); n != 1 { // tenant 2 goes on
		t.Errorf("%d owners have places, want 1", n)
	}
}

// TestWhatIsRefusedIsNotCounted: a request that one limit refuses takes nothing of the others,
// so that who is refused again and again within a second has not used up what is for an hour.
func TestWhatIsRefusedIsNotCounted(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr("192.0.2.1")
	const route = "routes: [{name: exports, prefix: /v1/exports, requests: 5, window: 1h}]"
	tenant := func(g *Guard) Verdict { return g.Check(&Request{Path: "/v1/exports", Tenant: 1}) }
	for name, tt := range map[string]struct {
		policy string
		first  func(g *Guard) Verdict // after it the others are refused for a while
		ask    func(g *Guard) Verdict
		want   int // how many go on then
	}{
		"a route, by the tier": {
			"tiers: {default: {requests: 1, window: 1s}}\n" + route,
			func(g *Guard) Verdict { return g.Check(&Request{Path: "/x", Tenant: 1}) }, tenant, 5,
		},
		"a route, by what is at once": {"tiers: {default: {concurrent: 1}}\n" + route, tenant, tenant, 4},
		"a tier, by what is at once":  {"tiers: {default: {requests: 5, window: 1h, concurrent: 1}}", tenant, tenant, 4},
		"an address, by what is at once": {
			"clients: {requests: 5, window: 1h, concurrent: 1}",
			func(g *Guard) Verdict { return g.CheckClient(addr) }, func(g *Guard) Verdict { return g.CheckClient(addr) }, 4,
		},
	} {
		g := newGuard(t, tt.policy)
		first := tt.first(g)
		for range 10 {
			if v := tt.ask(g); first.Err != nil || !errors.Is(v.Err, problem.RateLimited) {
				t.Fatalf("%s: got %v and %v", name, first.Err, v.Err)
			}
		}
		g.Done(first)
		n := 0
		for range 10 {
			g.began = g.began.Add(-time.Second) // a second later
			v := tt.ask(g)
			if g.Done(v); v.Err == nil {
				n++
			}
		}
		if n != tt.want {
			t.Errorf("%s: %d went on after the refusals, want %d", name, n, tt.want)
		}
	}
}

// TestManyAtOnce: under a limit of n, of many that ask at once exactly n go on.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "tiers: {default: {requests: 500, window: 24h}}")
	var wg sync.WaitGroup
	var mu sync.Mutex
	ok := 0
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if g.Check(&Request{Tenant: 1}).Err == nil {
					mu.Lock()
					ok++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if ok != 500 {
		t.Errorf("%d went on, want 500", ok)
	}
	if got := testutil.ToFloat64(g.metrics.refused.WithLabelValues("tenant_rate")); got != 1100 {
		t.Errorf("refused: got %v, want 1100", got)
	}
}

func TestRateLimitHeaders(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "tiers: {default: {requests: 100, window: 1m}}\nroutes: [{name: slow, prefix: /slow, requests: 5, window: 10s}]")
	v := g.Check(&Request{Path: "/x", Tenant: 1})
	if p, l := v.Policy(), string(v.AppendLeft(nil)); !v.Limited() || p != `"default";q=100;w=60` || l != `"default";r=99;t=1` {
		t.Errorf("got %s and %s", p, l)
	}
	v = g.Check(&Request{Path: "/slow", Tenant: 1})
	if p, l := v.Policy(), string(v.AppendLeft(nil)); p != `"slow";q=5;w=10` || l != `"slow";r=4;t=2` {
		t.Errorf("the nearer limit: got %s and %s", p, l)
	}
	if v := newGuard(t, "").Check(&Request{Tenant: 1}); v.Limited() {
		t.Error("no limit has headers")
	}
}

// TestAllocations: where all is off, and where requests are counted, nothing is
// put on the heap.
func TestAllocations(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	for name, policy := range map[string]string{
		"off": "",
		"on": `
clients: {requests: 1000000, window: 1s, concurrent: 100, connections: 100}
tiers: {default: {requests: 1000000, window: 1s, concurrent: 100}}
tenants: {9: default}
routes: [{name: a, prefix: /v1/a, requests: 1000000, window: 1s}, {name: b, prefix: /v1/b, methods: [GET]}]
trusted: [10.0.0.0/8]`,
	} {
		g := newGuard(t, policy)
		b := make([]byte, 0, 128)
		r := Request{Method: "GET", Path: "/t/acme/v1/a/1", Tenant: 1}
		n := testing.AllocsPerRun(1000, func() {
			client := g.CheckClient(g.Client(addr, nil))
			v := g.Check(&r)
			if v.Err != nil || client.Err != nil {
				t.Fatal(v.Err, client.Err)
			}
			if v.Limited() {
				b = v.AppendLeft(append(b[:0], v.Policy()...))
			}
			g.Done(v)
			g.Done(client)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for name, policy := range map[string]string{
		"off":  "",
		"rate": "tiers: {default: {requests: 1000000000, window: 1s}}",
		"all":  "clients: {requests: 1000000000, window: 1s, concurrent: 9}\ntiers: {default: {requests: 1000000000, window: 1s, concurrent: 100}}\nroutes: [{name: a, prefix: /v1/a, requests: 1000000000, window: 1s}]",
	} {
		b.Run(name, func(b *testing.B) {
			g, addr := newGuard(b, policy), netip.MustParseAddr("192.0.2.1")
			r := Request{Method: "GET", Path: "/t/acme/v1/a/1", Tenant: 1}
			b.ReportAllocs()
			for b.Loop() {
				client := g.CheckClient(addr)
				r.Tenant = r.Tenant%10000 + 1
				v := g.Check(&r)
				g.Done(v)
				g.Done(client)
			}
		})
	}
}
