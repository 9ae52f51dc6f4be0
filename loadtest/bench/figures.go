package bench

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

func tableFigure() *measure {
	return &measure{
		Figure: figure.Figure{
			Name: "table", Title: "the router's table with 1,000,000 tenants",
			How: "`go test -bench 'Lookup|ColdStart' ./router/table`, of ten million with TABLE_BENCH_10M=1: single look-ups of random slugs, one after the other, " +
				"less the clock's own cost, and the same in a map of Go's; bytes are those of the table's own structures; a cold start reads the file, asks no directory, and is ready for look-ups.",
			Values: []figure.Value{
				figure.Describe("look-up p50", "ns", ""), figure.Describe("look-up p99", "ns", ""), figure.Describe("look-up p50 / a map of Go's", "x", ""), figure.Describe("allocations", "per look-up", "= 0"),
				figure.Describe("memory", "B per tenant", "<= 16"), figure.Describe("cold start", "ms", ""), figure.Describe("cold start, 10,000,000 tenants", "ms", "<= 100"),
				figure.Describe("look-up p50, 10,000,000 tenants", "ns", "<= 60"), figure.Describe("look-up p99, 10,000,000 tenants", "ns", "<= 400"),
				figure.Describe("floor of a look-up, 10,000,000 tenants", "ns", ""), figure.Describe("memory, 10,000,000 tenants", "B per tenant", "<= 16"),
			},
		},
		round: tableRound,
	}
}

func tableRound(ctx context.Context, l *lab, m *measure) error {
	got, err := l.goBench(ctx, "router/table", "^Benchmark(Lookup|LookupInMap|ColdStart)$", "1s")
	if err != nil {
		return err
	}
	ours, err := got.take("Lookup/1M", "p50-ns")
	if err != nil {
		return err
	}
	theirs, err := got.take("LookupInMap/1M", "p50-ns")
	if err != nil {
		return err
	}
	m.Add("look-up p50 / a map of Go's", ours/theirs)
	if err := m.addAll(got, []benchValue{
		{"look-up p50", "Lookup/1M", "p50-ns", 1},
		{"look-up p99", "Lookup/1M", "p99-ns", 1},
		{"allocations", "Lookup/1M", "allocs/op", 1},
		{"memory", "Lookup/1M", "B/tenant", 1},
		{"cold start", "ColdStart/1M", "ns/op", 1e-6},
	}); err != nil {
		return err
	}
	got, err = l.goBench(ctx, "router/table", "^Benchmark(Lookup|LookupFloor|ColdStart)$/^10M$", "1s", "TABLE_BENCH_10M=1")
	if err != nil {
		return err
	}
	return m.addAll(got, []benchValue{
		{"cold start, 10,000,000 tenants", "ColdStart/10M", "ns/op", 1e-6},
		{"look-up p50, 10,000,000 tenants", "Lookup/10M", "p50-ns", 1},
		{"look-up p99, 10,000,000 tenants", "Lookup/10M", "p99-ns", 1},
		{"floor of a look-up, 10,000,000 tenants", "LookupFloor/10M", "p50-ns", 1},
		{"memory, 10,000,000 tenants", "Lookup/10M", "B/tenant", 1},
	})
}

// plans are what the planner is asked for.
var plans = []string{"drain", "evacuate", "rebalance"}

func plannerFigure() *measure {
	m := &measure{
		Figure: figure.Figure{
			Name: "planner", Title: "plans for 100,000 tenants on 100 cells in four localities",
			How: "`go test -bench Plan ./directory/planner`: a drain of the fullest cell, the evacuation of a locality with a quarter of the cells, a rebalance of all; " +
				"loads with a long tail, a third of the tenants bound to a locality, a tenth in groups that stay apart.",
		},
		round: plannerRound,
	}
	for _, p := range plans {
		m.Values = append(m.Values, figure.Describe(p, "ms", "<= 2000"))
	}
	return m
}

func plannerRound(ctx context.Context, l *lab, m *measure) error {
	got, err := l.goBench(ctx, "directory/planner", "^BenchmarkPlan$", "1s")
	if err != nil {
		return err
	}
	for _, p := range plans {
		v, err := got.take("Plan/"+p, "ns/op")
		if err != nil {
			return err
		}
		m.Add(p, v*1e-6)
	}
	return nil
}

// changes is how many route changes each round measures.
const changes = 40

func propagationFigure() *measure {
	return &measure{
		Figure: figure.Figure{
			Name: "propagation", Title: fmt.Sprintf("a change of a route, from the directory to all of %d router processes", routers),
			How: fmt.Sprintf("a tenant gets another host name, %d times a round; the clock starts before the change is sent to the directory "+
				"and stops when a request for the new name through the last of the %d routers is routed, so the figure holds the "+
				"directory's commit (fsync on) and a request through each router, which is asked every 5 ms.", changes, routers),
			Values: []figure.Value{figure.Describe("p50", "ms", ""), figure.Describe("p99", "ms", "<= 250")},
		},
		round: propagationRound,
	}
}

func propagationRound(ctx context.Context, l *lab, m *measure) error {
	if err := l.running(ctx); err != nil {
		return err
	}
	t, err := loadtest.SignUp(ctx, l.ep, &loadtest.Recorder{}, l.slug("canary"), loadtest.Plan{})
	if err != nil {
		return err
	}
	took, err := loadtest.Propagation(ctx, l.console, t, changes)
	if err != nil {
		return err
	}
	p := loadtest.Percentiles(took)
	m.Add("p50", ms(p.P50))
	m.Add("p99", ms(p.P99))
	return nil
}

func ms(d loadtest.Millis) float64 { return float64(d) / float64(time.Millisecond) }

// claimers take claims at the same time, for claimTime a round.
const (
	claimers  = 32
	claimTime = 4 * time.Second
)

func claimsFigure() *measure {
	return &measure{
		Figure: figure.Figure{
			Name: "claims", Title: "globally unique names taken over the directory's HTTP API",
			How: fmt.Sprintf("%d clients, each with one `POST /v1/claims` under way, for %v a round, every name a new one; "+
				"one directory process, its Postgres with fsync on, clients and servers on the same machine.", claimers, claimTime),
			Values: []figure.Value{figure.Describe("rate", "claims/s", ">= 1000"), figure.Describe("p50", "ms", ""), figure.Describe("p99", "ms", "")},
		},
		round: claimsRound,
	}
}

func claimsRound(ctx context.Context, l *lab, m *measure) error {
	if err := l.running(ctx); err != nil {
		return err
	}
	var tenant directory.Tenant
	if err := l.console.Call(ctx, http.MethodPost, "/v1/tenants", directory.NewTenant{Slug: l.slug("claimer")}, &tenant); err != nil {
		return err
	}
	began := time.Now()
	take := func(ctx context.Context, client, n int) error {
		c := directory.Claim{Kind: "login", Name: fmt.Sprintf("%s-%d-%d@example.com", tenant.Slug, client, n), Tenant: tenant.ID}
		return l.console.Call(ctx, http.MethodPost, "/v1/claims", c, nil)
	}
	took, err := hammer(ctx, claimers, claimTime, take)
	if err != nil {
		return err
	}
	p := loadtest.Percentiles(took)
	m.Add("rate", float64(len(took))/time.Since(began).Seconds())
	m.Add("p50", ms(p.P50))
	m.Add("p99", ms(p.P99))
	return nil
}

// hammer lets n clients call f again and again for d, and gives how long each call took.
func hammer(ctx context.Context, n int, d time.Duration, f func(ctx context.Context, client, n int) error) ([]time.Duration, error) {
	var (
		mu   sync.Mutex
		all  []time.Duration
		fail error
		wg   sync.WaitGroup
	)
	end := time.Now().Add(d)
	for client := range n {
		wg.Go(func() {
			var mine []time.Duration
			var err error
			for i := 0; err == nil && time.Now().Before(end); i++ {
				start := time.Now()
				if err = f(ctx, client, i); err == nil {
					mine = append(mine, time.Since(start))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all, fail = append(all, mine...), cmp.Or(fail, err)
		})
	}
	wg.Wait()
	return all, fail
}
