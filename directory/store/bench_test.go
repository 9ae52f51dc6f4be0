package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/store"
	"github.com/cellway/cellway/infra/local"
)

// durable is an empty record on a server of its own that flushes every commit to
// disk, which the tests' server does not.
func durable(b *testing.B) *store.Store {
	b.Helper()
	bin, err := local.FindPostgres("")
	if err != nil {
		b.Skip(err)
	}
	user, err := local.Unprivileged()
	if err != nil {
		b.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "cellway-bench-") // not b.TempDir: its parent is closed to other users
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	port, err := local.FreePort()
	srv := local.Postgres{
		Name: "postgres", Bin: bin, Data: filepath.Join(dir, "data"), Port: port, Password: "bench",
		Log: filepath.Join(dir, "postgres.log"), User: user, OnOrphan: syscall.SIGQUIT,
	}
	if err := errors.Join(err, user.Own(dir), local.InitDB(b.Context(), bin, srv.Data, srv.Password, user)); err != nil {
		b.Fatal(err)
	}
	proc, err := local.StartReady(b.Context(), srv.Command(), srv.Answers)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = proc.Stop(b.Context(), syscall.SIGQUIT, 10*time.Second) })
	url := srv.URL("postgres")
	if err := store.Migrate(b.Context(), url); err != nil {
		b.Fatal(err)
	}
	return open(b, url)
}

// BenchmarkTakeClaim takes different names for different tenants from 32 callers.
func BenchmarkTakeClaim(b *testing.B) {
	s := durable(b)
	if _, err := s.AddCell(b.Context(), directory.Cell{ID: "c1", Address: "http://c1", Capacity: 1000, Incarnation: "db"}); err != nil {
		b.Fatal(err)
	}
	var tenants []directory.TenantID
	for i := range 100 {
		t, err := s.CreateTenant(b.Context(), directory.NewTenant{Slug: fmt.Sprint("t", i)})
		if err != nil {
			b.Fatal(err)
		}
		tenants = append(tenants, t.ID)
	}
	var n atomic.Int64
	measure(b, 32, func() error {
		i := n.Add(1)
		return s.TakeClaim(b.Context(), directory.Claim{Kind: "login", Name: fmt.Sprint("user-", i), Tenant: tenants[int(i)%len(tenants)]})
	})
}

// BenchmarkCreateTenant places tenants from 8 callers; each is a version.
func BenchmarkCreateTenant(b *testing.B) {
	s := durable(b)
	for i := range 3 {
		c := directory.Cell{ID: directory.CellID(fmt.Sprint("c", i)), Address: "http://c", Capacity: 1_000_000, Incarnation: "db"}
		if _, err := s.AddCell(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	go func() { // as cells do, so that they stay healthy however long this takes
		for b.Context().Err() == nil {
			for i := range 3 {
				_ = s.Heartbeat(b.Context(), directory.CellID(fmt.Sprint("c", i)), "")
			}
			time.Sleep(time.Second)
		}
	}()
	var n atomic.Int64
	measure(b, 8, func() error {
		_, err := s.CreateTenant(b.Context(), directory.NewTenant{Slug: fmt.Sprint("b", n.Add(1))})
		return err
	})
}

// BenchmarkCreateMove records a move of each of many tenants to one cell, one after
// the other, as a drain does: what it costs grows with those under way.
func BenchmarkCreateMove(b *testing.B) {
	s := durable(b)
	for i := range 2 {
		if _, err := s.AddCell(b.Context(), directory.Cell{ID: directory.CellID(fmt.Sprint("c", i)), Address: "http://c", Capacity: 1_000_000, Incarnation: "db"}); err != nil {
			b.Fatal(err)
		}
	}
	var tenants []directory.TenantID
	for i := range b.N {
		t, err := s.CreateTenant(b.Context(), directory.NewTenant{Slug: fmt.Sprint("m", i), Cell: "c0"})
		if err != nil {
			b.Fatal(err)
		}
		tenants = append(tenants, t.ID)
	}
	var n atomic.Int64
	measure(b, 1, func() error {
		_, err := s.CreateMove(b.Context(), directory.NewMove{Tenant: tenants[n.Add(1)-1], Target: "c1"})
		return err
	})
}

// measure runs f b.N times from callers goroutines and reports rate and p99.
func measure(b *testing.B, callers int, f func() error) {
	b.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			var mine []time.Duration
			for left.Add(-1) >= 0 {
				start := time.Now()
				if err := f(); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
