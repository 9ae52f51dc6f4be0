package blast

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cellway/cellway/loadtest"
)

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
