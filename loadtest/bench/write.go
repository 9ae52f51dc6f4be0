package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

// Sizes of the write figure.
const (
	writeTenants = 16
	writeRate    = 200 // a second, of all tenants
	writeWarm    = 2 * time.Second
	writeTime    = 10 * time.Second
)

// The processes that a write is paid for by, as the stack names them.
var payers = []struct{ value, process string }{
	{"API", "c1"}, {"worker", "c1-worker"}, {"Postgres", "c1-postgres"}, {"Redis", "c1-redis"}, {"routers", "router-"},
}

func writeFigure() *measure {
	f := figure.Figure{
		Name: "write", Title: "what a tenant's write costs: the request, its event, and the event's effect in a consumer",
		How: fmt.Sprintf("%d tenants of one cell write %d times a second in turn (POST /v1/projects through the ten routers, idle but for it), each write begun when its time "+
			"has come; after %v, for %v a round: processor time of each kind of process, user and system, from its own account, a write; and how long the answers took.",
			writeTenants, writeRate, writeWarm, writeTime),
		Values: []figure.Value{figure.Describe("answer p50", "ms", ""), figure.Describe("answer p99", "ms", ""), figure.Describe("in all", "CPU-ms", "")},
	}
	for _, p := range payers {
		f.Values = append(f.Values, figure.Describe(p.value, "CPU-ms", ""))
	}
	return &measure{Figure: f, round: writeRound}
}

func writeRound(ctx context.Context, l *lab, m *measure) error {
	if err := l.running(ctx); err != nil {
		return err
	}
	var tenants []*loadtest.Tenant
	for range writeTenants {
		t, err := loadtest.SignUp(ctx, l.ep, &loadtest.Recorder{}, l.slug("payer"), loadtest.Plan{})
		if err != nil {
			return err
		}
		tenants = append(tenants, t)
	}
	if _, err := paced(ctx, writeWarm, tenants); err != nil {
		return err
	}
	before, err := l.spent()
	if err != nil {
		return err
	}
	took, err := paced(ctx, writeTime, tenants)
	if err != nil {
		return err
	}
	after, err := l.spent()
	if err != nil {
		return err
	}
	p, sum := loadtest.Percentiles(took), 0.0
	m.Add("answer p50", ms(p.P50))
	m.Add("answer p99", ms(p.P99))
	for _, payer := range payers {
		each := float64(after[payer.value]-before[payer.value]) / float64(time.Millisecond) / float64(len(took))
		m.Add(payer.value, each)
		sum += each
	}
	m.Add("in all", sum)
	return nil
}

// paced writes at the rate for d and gives how long each answer took, from when it was due.
func paced(ctx context.Context, d time.Duration, tenants []*loadtest.Tenant) ([]time.Duration, error) {
	var mu sync.Mutex
	var took []time.Duration
	g, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for n := range int(d.Seconds() * writeRate) {
		due := began.Add(time.Duration(n) * time.Second / writeRate)
		if !loadtest.Pause(ctx, time.Until(due)) {
			break
		}
		g.Go(func() error {
			if err := writeOne(ctx, tenants[n%len(tenants)], n); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(due))
			return nil
		})
	}
	err := g.Wait()
	return took, err
}

// spent is the processor time of each payer so far.
func (l *lab) spent() (map[string]time.Duration, error) {
	sums := map[string]time.Duration{}
	for _, proc := range l.stack.State().Processes {
		for _, payer := range payers {
			if proc.Name != payer.process && (!strings.HasSuffix(payer.process, "-") || !strings.HasPrefix(proc.Name, payer.process)) {
				continue
			}
			t, err := loadtest.ProcessorTime(proc.PID)
			if err != nil {
				return nil, fmt.Errorf("read the processor time of %s: %w", proc.Name, err)
			}
			sums[payer.value] += t
		}
	}
	return sums, nil
}
