package worker

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/testkit"
)

// BenchmarkEvents measures an event's way from its transaction to its effect: as
// many as go through (b.N events of 32 tenants, 8 writers), then at a steady 100
// a second the delay.
func BenchmarkEvents(b *testing.B) {
	st := openAt(b, testkit.BenchPostgres(b))
	const tenants, writers = 32, 8
	for t := directory.TenantID(1); t <= tenants; t++ {
		st.admit(b, t)
	}
	w := st.worker(b, Options{}, logger("log"))
	var mu sync.Mutex
	var delays []time.Duration
	done := make(chan struct{}, 1<<20)
	w.seen = func(d time.Duration) {
		mu.Lock()
		delays = append(delays, d)
		mu.Unlock()
		done <- struct{}{}
	}
	start(b, st.relay(), w)
	st.write(b, 1, 1, created)
	<-done

	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := i; n < b.N; n += writers {
				if err := appendOne(b.Context(), st.store, directory.TenantID(1+n%tenants), created, n); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for range b.N {
		<-done
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")

	delays = delays[:0]
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	const steady = 500
	for n := range steady {
		<-tick.C
		wg.Go(func() {
			if err := appendOne(b.Context(), st.store, directory.TenantID(1+n%tenants), created, n); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	for range steady {
		<-done
	}
	slices.Sort(delays)
	b.ReportMetric(float64(delays[steady/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(delays[steady*99/100].Microseconds())/1000, "p99-ms")
}
