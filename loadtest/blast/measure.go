package blast

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// settle lets d pass, while the loads go on.
func (*measurement) settle(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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

// fault lets one fault come and go.
func (m *measurement) fault(ctx context.Context, fault string) (*Line, error) {
	line := &Line{Fault: fault}
	var ratios, before, during, fails, backs []float64
	base, err := m.memory()
	if err != nil {
		return nil, err
	}
	var sent, attempts float64
	for range m.o.Rounds {
		m.start()
		if err := m.settle(ctx, m.o.Window); err != nil {
			return nil, err
		}
		calm := m.others()
		line.count(calm, false)
		asked, tried := m.victim.sent(), 0.0
		if tried, err = m.attempts(ctx); err != nil {
			return nil, err
		}
		m.start()
		if err := m.strike(ctx, fault); err != nil {
			return nil, err
		}
		if err := m.settle(ctx, m.o.Window); err != nil {
			return nil, err
		}
		rough, own := m.others(), m.victim.window()
		line.count(rough, true)
		line.VictimAnswered += own.good
		line.VictimFailed += own.bad + own.shed
		n, err := m.attempts(ctx)
		if err != nil {
			return nil, err
		}
		sent, attempts = sent+float64(m.victim.sent()-asked), attempts+n-tried
		grown, err := m.memory()
		if err != nil {
			return nil, err
		}
		line.MemoryGrowth = max(line.MemoryGrowth, grown-base)
		if own.fastFail > 0 {
			fails = append(fails, ms(own.fastFail))
		}
		p, q := p99(calm), p99(rough)
		if p > 0 && q > 0 {
			ratios, before, during = append(ratios, q/p), append(before, p), append(during, q)
		}
		if err := m.heal(ctx, fault); err != nil {
			return nil, err
		}
		m.victim.window()
		back, err := m.back(ctx)
		if err != nil {
			return nil, err
		}
		backs = append(backs, ms(back))
		// What came too late for its window counts, too.
		line.count(m.others(), false)
	}
	line.P99Ratios, line.P99Ratio = ratios, loadtest.Median(ratios)
	line.P99Before, line.P99During = loadtest.Median(before), loadtest.Median(during)
	if len(fails) > 0 {
		line.FastFail = new(loadtest.Median(fails))
	}
	line.Back = new(loadtest.Median(backs))
	if sent > 0 {
		line.Attempts = attempts / sent
	}
	line.judge()
	return line, nil
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

var overloads = []int{2, 5, 10}

func overloadName(times int) string { return fmt.Sprintf("overload-%dx", times) }

// overload measures the peak of a cell with a small capacity, and what of it is
// left when more is asked. What an answer is worth ends with usefulWithin.
func (m *measurement) overload(ctx context.Context) ([]*Line, error) {
	asked := slices.DeleteFunc(slices.Clone(overloads), func(times int) bool { return !m.o.wants(overloadName(times)) })
	if len(asked) == 0 {
		return nil, nil
	}
	if err := m.tell(ctx, busy); err != nil {
		return nil, err
	}
	capacity := float64(width) / work.Seconds()
	var lines []*Line
	peaks, shares := map[int][]float64{}, map[int][]float64{}
	for _, times := range asked {
		lines = append(lines, &Line{Fault: overloadName(times)})
	}
	base, err := m.memory()
	if err != nil {
		return nil, err
	}
	for range max(1, m.o.Rounds/3) {
		peak, _, err := m.goodput(ctx, 2*width, 100*capacity)
		if err != nil {
			return nil, err
		}
		for i, times := range asked {
			rate := capacity * float64(times)
			good, others, err := m.goodput(ctx, int(rate), rate)
			if err != nil {
				return nil, err
			}
			lines[i].count(others, true)
			peaks[times], shares[times] = append(peaks[times], peak), append(shares[times], good/max(peak, 1))
			grown, err := m.memory()
			if err != nil {
				return nil, err
			}
			lines[i].MemoryGrowth = max(lines[i].MemoryGrowth, grown-base)
		}
	}
	for i, times := range asked {
		lines[i].Peak, lines[i].Goodput = new(loadtest.Median(peaks[times])), new(loadtest.Median(shares[times]))
		lines[i].judge()
	}
	return lines, m.tell(ctx, well)
}

// goodput is the useful answers a second of a load on the victim, once it has had
// a third of a window to find its limit.
func (m *measurement) goodput(ctx context.Context, conns int, rate float64) (float64, outcome, error) {
	one := &load{router: m.addr, cell: nameOf(victim), conns: conns, rate: rate, skips: true}
	loading, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		one.run(loading)
	}()
	defer func() {
		stop()
		<-ended
	}()
	if err := m.settle(ctx, m.o.Window/3); err != nil {
		return 0, outcome{}, err
	}
	one.window()
	m.others()
	began := time.Now()
	if err := m.settle(ctx, m.o.Window); err != nil {
		return 0, outcome{}, err
	}
	o := one.window()
	return float64(o.useful) / time.Since(began).Seconds(), m.others(), nil
}
