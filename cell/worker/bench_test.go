package worker

import (
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/testkit"
)

// benchDatabase names a superuser's URL of a server with fsync on; without it
// the tests' own server, which has it off, is measured.
const benchDatabase = "CELLWAY_BENCH_DATABASE_URL"

func benchURL(b *testing.B) string {
	b.Helper()
	url := os.Getenv(benchDatabase)
	if url == "" {
		return testkit.Postgres(b)
	}
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	for _, sql := range []string{`DROP DATABASE IF EXISTS cellway_bench WITH (FORCE)`, `CREATE DATABASE cellway_bench`} {
		if _, err := conn.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	cfg := conn.Config()
	return "postgres://" + cfg.User + ":" + cfg.Password + "@" + cfg.Host + ":" + strconv.Itoa(int(cfg.Port)) + "/cellway_bench?sslmode=disable"
}

// BenchmarkEvents measures an event's way from its transaction to its effect: as
// many as go through (b.N events of 32 tenants, 8 writers), then at a steady 100
// a second the delay.
func BenchmarkEvents(b *testing.B) {
	st := openAt(b, benchURL(b))
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
