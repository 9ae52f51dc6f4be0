package benchmove

import (
	"context"
	"fmt"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

// movesOfTenant is how many moves one tenant makes before another takes its place,
// so that the tenant's size stays that of a small customer.
const movesOfTenant = 20

func pauseFigure() *measure {
	return &measure{
		Figure: figure.Figure{
			Name: "pause", Title: "the pause of a move, as the tenant's clients see it through the routers",
			How: "two cells, two routers, one mover, all processes with their default settings, every Postgres with fsync on; the tenant's clients " +
				"begin a write (POST /v1/projects) each time one is due, however many are under way, and repeat none. The pause runs from the last " +
				"acknowledgement of a write that was committed at the epoch before the move to the first one at the move's epoch; the tenant's own " +
				"events say which is which. Half of the moves are whole ones (copy, rounds, cutover), half undo them. A tenant makes 20 of them. " +
				"The mover's own pause runs from its freeze to the activation's answer. Steps are medians of what cells and directory took to answer " +
				"the mover, from their access logs: the record that the tenant is frozen, before the pause; freeze, then from its end the last round, " +
				"then decide, then activate. The clients' pause holds also the way through router and cell, and the time between two writes.",
			Values: []figure.Value{
				figure.Describe("p50", "ms", "<= 15"), figure.Describe("p99", "ms", "<= 100"), figure.Describe("max", "ms", ""),
				figure.Describe("client-visible errors", "", "= 0"), figure.Describe("acknowledged writes lost", "", "= 0"),
				figure.Describe("moves", "", ""), figure.Describe("attempts aborted by a bound, repeated", "", ""),
				figure.Describe("writes", "1/s", ">= 200"), figure.Describe("longest write", "ms", ""),
				figure.Describe("whole move p50", "ms", ""), figure.Describe("undo p50", "ms", ""),
				figure.Describe("mover's own p50", "ms", ""), figure.Describe("mover's own p99", "ms", ""), figure.Describe("mover's own max", "ms", ""),
				figure.Describe("step: freeze", "ms", ""), figure.Describe("step: last round", "ms", ""),
				figure.Describe("step: last round, at the source", "ms", ""),
				figure.Describe("step: record frozen", "ms", ""), figure.Describe("step: decide", "ms", ""), figure.Describe("step: activate", "ms", ""),
			},
		},
		run: pauseRun,
	}
}

// paused collects what moves under load showed.
type paused struct {
	pauses, own, whole, undo []time.Duration
	aborted, faults, lost    int
	rates                    []float64
	longest                  time.Duration
}

func pauseRun(ctx context.Context, l *lab, m *measure) error {
	w, err := l.running(ctx)
	if err != nil {
		return err
	}
	var p paused
	began := time.Now()
	for len(p.own) < l.o.Moves {
		n := min(movesOfTenant, l.o.Moves-len(p.own))
		if err := p.tenant(ctx, w, m, n); err != nil {
			return err
		}
		l.say("pause: %d of %d moves, p50 %v so far", len(p.own), l.o.Moves, loadtest.Percentiles(p.pauses).P50)
	}
	p.tell(m)
	return tellSteps(w, m, began)
}

// tenant moves one tenant there and back while it writes, n moves in all.
func (p *paused) tenant(ctx context.Context, w *world, m *measure, n int) error {
	t, err := w.tenant(ctx, w.lab.slug("paused"), w.cell(0))
	if err != nil {
		return err
	}
	load := write(ctx, w.lab.o.Rate, t)
	done, err := p.thereAndBack(ctx, w, t.ID, n)
	load.stop()
	if err != nil {
		return err
	}
	p.faults += len(load.faults)
	for _, f := range load.faults[:min(3, len(load.faults))] {
		m.Note("a client saw: %s", f)
	}
	p.rates = append(p.rates, load.achieved())
	return p.judge(ctx, w, load, done)
}

// thereAndBack makes n moves, each second one an undo.
func (p *paused) thereAndBack(ctx context.Context, w *world, tenant directory.TenantID, n int) ([]moved, error) {
	var done []moved
	for i := range n {
		next := directory.NewMove{Tenant: tenant, Target: w.cell(1)}
		if i%2 == 1 {
			next = directory.NewMove{Tenant: tenant, Target: w.cell(0), Undoes: done[i-1].ID}
		}
		got, err := w.move(ctx, next)
		if err != nil {
			return done, err
		}
		done = append(done, got)
		p.own = append(p.own, got.Pause)
		p.aborted += got.aborted
		if i%2 == 0 {
			p.whole = append(p.whole, got.took)
			continue
		}
		p.undo = append(p.undo, got.took)
		if err := w.complete(ctx, got.ID); err != nil {
			return done, err
		}
	}
	return done, nil
}

// judge finds the pauses of the moves in what the clients saw.
func (p *paused) judge(ctx context.Context, w *world, load *writer, done []moved) error {
	owner, err := w.at(done[len(done)-1].Target)
	if err != nil {
		return err
	}
	h, err := readHistory(ctx, owner, load.tenants[0].ID)
	if err != nil {
		return err
	}
	p.lost += load.lost(h)
	for _, a := range load.acks {
		p.longest = max(p.longest, a.took)
	}
	for _, mv := range done {
		d, ok := load.pause(h, mv.Base+1)
		if !ok {
			return fmt.Errorf("move %s: no write at its epoch %d or before", mv.ID, mv.Base+1)
		}
		p.pauses = append(p.pauses, d)
	}
	return nil
}

func (p *paused) tell(m *measure) {
	seen, own := loadtest.Percentiles(p.pauses), loadtest.Percentiles(p.own)
	for name, v := range map[string]loadtest.Millis{
		"p50": seen.P50, "p99": seen.P99, "max": seen.Max, "longest write": loadtest.Millis(p.longest),
		"mover's own p50": own.P50, "mover's own p99": own.P99, "mover's own max": own.Max,
		"whole move p50": loadtest.Percentiles(p.whole).P50, "undo p50": loadtest.Percentiles(p.undo).P50,
	} {
		m.Add(name, ms(v))
	}
	m.Add("client-visible errors", float64(p.faults))
	m.Add("acknowledged writes lost", float64(p.lost))
	m.Add("moves", float64(len(p.pauses)))
	m.Add("attempts aborted by a bound, repeated", float64(p.aborted))
	for _, r := range p.rates {
		m.Add("writes", r)
	}
}

func ms[D ~int64](d D) float64 { return float64(d) / float64(time.Millisecond) }
