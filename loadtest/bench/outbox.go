package bench

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

// Sizes of the outbox figure.
const (
	writers    = 16   // tenants that write the backlog
	backlog    = 4000 // events, of all writers together
	background = 8    // tenants that work while the delay is measured
	samples    = 150  // delays a round
)

func outboxFigure() *measure {
	return &measure{
		Figure: figure.Figure{
			Name: "outbox", Title: "events of one cell, from their commit to their effect in a consumer",
			How: fmt.Sprintf("rate: the cell's worker is killed, %d events of %d tenants are written over the API, the worker is started, "+
				"and the time counts from the first effect until the last event has had its effect (its inbox row, with the effect's "+
				"transaction); relay, Redis stream, consumer and Postgres with fsync on are all in it. Delay: while %d tenants write, "+
				"another one writes an event and asks for it in `/v1/activity` until it is there; the time counts from the acknowledged "+
				"write and holds the last look; %d samples a round.", backlog, writers, background, samples),
			Values: []figure.Value{figure.Describe("rate", "events/s", ""), figure.Describe("delay p50", "ms", ""), figure.Describe("delay p99", "ms", "")},
		},
		round: outboxRound,
	}
}

func outboxRound(ctx context.Context, l *lab, m *measure) error {
	if err := l.running(ctx); err != nil {
		return err
	}
	rate, err := drainRate(ctx, l)
	if err != nil {
		return fmt.Errorf("drain a backlog: %w", err)
	}
	delays, err := delays(ctx, l)
	if err != nil {
		return fmt.Errorf("measure delays: %w", err)
	}
	p := loadtest.Percentiles(delays)
	m.Add("rate", rate)
	m.Add("delay p50", ms(p.P50))
	m.Add("delay p99", ms(p.P99))
	return nil
}

// drainRate lets a backlog grow and measures how fast the worker gets through it.
func drainRate(ctx context.Context, l *lab) (float64, error) {
	cell := l.stack.State().Cells[0]
	if err := l.stack.Kill(cell.ID + "-worker"); err != nil {
		return 0, err
	}
	g, gctx := errgroup.WithContext(ctx)
	for range writers {
		t, err := loadtest.SignUp(ctx, l.ep, &loadtest.Recorder{}, l.slug("writer"), loadtest.Plan{})
		if err != nil {
			return 0, err
		}
		g.Go(func() error {
			for i := range backlog / writers {
				if err := writeOne(gctx, t, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	db, err := pg.Open(ctx, cell.DatabaseURL, 1)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	// Each consumer has its own row; the slowest one counts.
	const left = `
		SELECT coalesce(sum(c.last - coalesce(i.done, 0)), 0)
		  FROM cell.outbox_counter c
		  LEFT JOIN (SELECT tenant_id, min(last_seq) AS done FROM cell.inbox GROUP BY tenant_id) i USING (tenant_id)`
	count := func(ctx context.Context) (n int64, err error) {
		err = db.QueryRow(ctx, left).Scan(&n)
		return n, err
	}
	before, err := count(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	g, ctx = errgroup.WithContext(ctx)
	g.Go(func() error { return l.stack.StartProcess(ctx, cell.ID+"-worker") })
	var rate float64
	g.Go(func() (err error) {
		rate, err = watchDrain(ctx, before, count)
		return err
	})
	return rate, g.Wait()
}

// watchDrain looks at a shrinking backlog. The clock runs from the first look
// that finds it smaller: the start of a process is not what is measured.
func watchDrain(ctx context.Context, before int64, count func(ctx context.Context) (int64, error)) (float64, error) {
	var began time.Time
	var first int64
	err := loadtest.Until(ctx, "the backlog to be consumed", 5*time.Millisecond, func(ctx context.Context) (bool, error) {
		now, err := count(ctx)
		if began.IsZero() && now < before {
			began, first = time.Now(), now
		}
		return err == nil && now == 0, err
	})
	return float64(first) / time.Since(began).Seconds(), err
}

func writeOne(ctx context.Context, t *loadtest.Tenant, i int) error {
	a, err := t.Do(ctx, loadtest.Request{Method: http.MethodPost, Path: "/v1/projects", Body: map[string]string{"name": fmt.Sprintf("event %d", i)}})
	if err != nil {
		return err
	}
	return a.Problem()
}

// delays measures single events while others are on their way.
func delays(ctx context.Context, l *lab) ([]time.Duration, error) {
	stop := make(chan struct{})
	g, gctx := errgroup.WithContext(ctx)
	for range background {
		t, err := loadtest.SignUp(ctx, l.ep, &loadtest.Recorder{}, l.slug("busy"), loadtest.Plan{Seed: 1, Think: 10 * time.Millisecond})
		if err != nil {
			return nil, err
		}
		g.Go(func() error { return t.Work(gctx, stop) })
	}
	took, err := sampleDelays(gctx, l)
	close(stop)
	return took, cmp.Or(g.Wait(), err)
}

func sampleDelays(ctx context.Context, l *lab) ([]time.Duration, error) {
	t, err := loadtest.SignUp(ctx, l.ep, &loadtest.Recorder{}, l.slug("probe"), loadtest.Plan{})
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for i := range samples {
		if err := writeOne(ctx, t, i); err != nil {
			return nil, err
		}
		start := time.Now()
		err := loadtest.Until(ctx, "the event's effect", time.Millisecond, func(ctx context.Context) (bool, error) {
			return t.Seen(ctx, int64(i)+1)
		})
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}
