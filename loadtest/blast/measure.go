package blast

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cellway/cellway/loadtest"
)

// A measurement is the lab with its loads.
type measurement struct {
	*lab
	victim     *load
	well       []*load
	stopVictim context.CancelFunc
}

// toVictim is a load of the victim's usual rate.
func (l *lab) toVictim() *load {
	return &load{router: l.addr, cell: nameOf(victim), conns: int(victimRate * connsFor.Seconds()), rate: victimRate, skips: true}
}

// loaded puts load on all cells; stop ends it.
func (l *lab) loaded(ctx context.Context) (m *measurement, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	asking, stopVictim := context.WithCancel(ctx)
	m = &measurement{lab: l, victim: l.toVictim(), stopVictim: stopVictim}
	var running sync.WaitGroup
	running.Go(func() { m.victim.run(asking) })
	for n := range victim { // it is the last one
		one := &load{router: l.addr, cell: nameOf(n), conns: wellConns, rate: l.o.rate()}
		m.well = append(m.well, one)
		running.Go(func() { one.run(ctx) })
	}
	return m, func() {
		cancel()
		running.Wait()
	}
}

// settle lets d pass, while the loads go on.
func (*measurement) settle(ctx context.Context, d time.Duration) error {
	loadtest.Pause(ctx, d)
	return ctx.Err()
}

// others ends the window of the cells that are well, and sums it up.
func (m *measurement) others() (sum outcome) {
	for _, one := range m.well {
		o := one.window()
		sum.sent += o.sent
		sum.shed += o.shed
		sum.bad += o.bad
		sum.took = append(sum.took, o.took...)
		if sum.why == "" && o.why != "" {
			sum.why = one.cell + ": " + o.why
		}
	}
	return sum
}

// start begins a window everywhere.
func (m *measurement) start() {
	m.others()
	m.victim.window()
}

// rounds is what one fault's rounds showed.
type rounds struct {
	ratios, before, during, fails, backs []float64
	sent, attempts                       float64 // requests to the victim, and tries at it
	memory                               float64 // of the router, at the end of the last one
}

// fault lets one fault come and go, several times.
func (m *measurement) fault(ctx context.Context, fault string) (*Line, error) {
	line := &Line{Fault: fault}
	base, err := m.memory()
	if err != nil {
		return nil, err
	}
	var all rounds
	for range m.o.Rounds {
		if err := m.round(ctx, line, &all); err != nil {
			return nil, err
		}
		line.MemoryGrowth = max(line.MemoryGrowth, all.memory-base)
	}
	line.P99Ratios, line.P99Ratio = all.ratios, loadtest.Median(all.ratios)
	line.P99Before, line.P99During = loadtest.Median(all.before), loadtest.Median(all.during)
	if len(all.fails) > 0 {
		line.FastFail = new(loadtest.Median(all.fails))
	}
	line.Back = new(loadtest.Median(all.backs))
	if all.sent > 0 {
		line.Attempts = all.attempts / all.sent
	}
	line.judge()
	return line, nil
}

// round is a window without the fault, one with it, and the time until the victim is back.
func (m *measurement) round(ctx context.Context, line *Line, all *rounds) error {
	m.start()
	if err := m.settle(ctx, m.o.Window); err != nil {
		return err
	}
	calm := m.others()
	line.count(calm, false)
	asked := m.victim.sent()
	tried, err := m.attempts(ctx)
	if err != nil {
		return err
	}
	m.start()
	if err := m.strike(ctx, line.Fault); err != nil {
		return err
	}
	if err := m.settle(ctx, m.o.Window); err != nil {
		return err
	}
	rough, own := m.others(), m.victim.window()
	line.count(rough, true)
	line.VictimAnswered += own.good
	line.VictimFailed += own.bad + own.shed
	n, err := m.attempts(ctx)
	if err != nil {
		return err
	}
	all.sent, all.attempts = all.sent+float64(m.victim.sent()-asked), all.attempts+n-tried
	if all.memory, err = m.memory(); err != nil {
		return err
	}
	if own.fastFail > 0 {
		all.fails = append(all.fails, ms(own.fastFail))
	}
	if p, q := p99(calm), p99(rough); p > 0 && q > 0 {
		all.ratios, all.before, all.during = append(all.ratios, q/p), append(all.before, p), append(all.during, q)
	}
	if err := m.heal(ctx, line.Fault); err != nil {
		return err
	}
	m.victim.window()
	back, err := m.back(ctx)
	if err != nil {
		return err
	}
	all.backs = append(all.backs, ms(back))
	line.count(m.others(), false) // what came too late for its window counts, too
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func p99(o outcome) float64 { return ms(time.Duration(loadtest.Percentiles(o.took).P99)) }

// back waits for the victim's first good answer to a request that was sent after
// its window began.
func (m *measurement) back(ctx context.Context) (time.Duration, error) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		m.victim.mu.Lock()
		first := m.victim.now.firstGood
		m.victim.mu.Unlock()
		if first > 0 {
			return first, nil
		}
		if err := m.settle(ctx, 5*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("its traffic did not come back within a minute")
}
