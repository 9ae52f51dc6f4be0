package table

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dchest/siphash"

	"github.com/cellway/cellway/directory"
)

const million = 1_000_000

// sizes are how many tenants the benchmarks have. Ten million take two gigabytes
// to make and are asked for: TABLE_BENCH_10M=1.
func sizes() map[string]int {
	all := map[string]int{"1M": million}
	if os.Getenv("TABLE_BENCH_10M") != "" {
		all["10M"] = 10 * million
	}
	return all
}

// fleet is a snapshot of n tenants on 64 cells, an eighth of which have moved.
func fleet(n int) directory.Update {
	u := directory.Update{Version: 100}
	for i := range 64 {
		u.Cells = append(u.Cells, cells(fmt.Sprint("c", i))...)
	}
	u.Routes = make([]directory.Route, n)
	for i := range u.Routes {
		u.Routes[i] = route(i+1, string(u.Cells[i*7%64].ID), 1+i%8/7*(i%5), slug(i+1))
	}
	return u
}

// onDisk is a table of n tenants as a router has it that was started again, with
// some changes on top, as there always are.
func onDisk(b *testing.B, n int) (*Table, string) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "table")
	tab := New()
	apply(b, tab, fleet(n))
	d := NewDisk(path, "", tab, quiet())
	if err := d.save(tab.View()); err != nil {
		b.Fatal(err)
	}
	d.speedUp()
	for i := range 100 {
		apply(b, tab, delta(100+i, 101+i, route(i+1, "c3", 9, slug(i+1))))
	}
	return tab, path
}

// BenchmarkLookup looks up random tenants by their slug. ns/op is of one look-up
// after the other; p50 and p99 are of single ones, less what the clock itself costs.
func BenchmarkLookup(b *testing.B) {
	for name, n := range sizes() {
		tab, _ := onDisk(b, n)
		b.Run(name, func(b *testing.B) {
			lookups(b, n, func(slug string) bool {
				_, ok := tab.View().BySlug(slug)
				return ok
			})
			v := tab.View()
			b.ReportMetric(float64(v.Bytes())/float64(v.Tenants()), "B/tenant")
		})
	}
}

// BenchmarkLookupInMap looks the same up in a map of Go's, which has no memory-mapped
// file, no changes on top, and six to ten times as many bytes.
func BenchmarkLookupInMap(b *testing.B) {
	for name, n := range sizes() {
		placements := make(map[string]directory.Placement, n)
		for _, r := range fleet(n).Routes {
			placements[r.Slug] = r.Placement
		}
		b.Run(name, func(b *testing.B) {
			lookups(b, n, func(slug string) bool {
				_, ok := placements[slug]
				return ok
			})
		})
	}
}

// BenchmarkLookupFloor is what a look-up costs at least in a table of 13 bytes a tenant whose
// places clients cannot choose: the hash of the name, and one read of what is in no cache.
func BenchmarkLookupFloor(b *testing.B) {
	for name, n := range sizes() {
		memory := bytes.Repeat([]byte{1}, 13*n)
		b.Run(name, func(b *testing.B) {
			lookups(b, n, func(slug string) bool {
				at, _ := bits.Mul64(siphash.Hash(1, 2, bytesOf(slug)), uint64(len(memory)-8))
				return binary.LittleEndian.Uint64(memory[at:]) != 0
			})
		})
	}
}

func lookups(b *testing.B, n int, find func(slug string) bool) {
	slugs := make([]string, 1<<18)
	for i := range slugs {
		slugs[i] = slug(rand.IntN(n) + 1)
	}
	took := make([]float64, len(slugs))
	clock := clockCost()
	for i, s := range slugs {
		began := time.Now()
		ok := find(s)
		took[i] = float64(time.Since(began) - clock)
		if !ok {
			b.Fatalf("%s not found", s)
		}
	}
	slices.Sort(took)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		find(slugs[i&(len(slugs)-1)])
		i++
	}
	b.ReportMetric(took[len(took)/2], "p50-ns")
	b.ReportMetric(took[len(took)*99/100], "p99-ns")
}

// clockCost is what it costs to ask for the time twice, at the median.
func clockCost() time.Duration {
	costs := make([]time.Duration, 1001)
	for i := range costs {
		began := time.Now()
		costs[i] = time.Since(began)
	}
	slices.Sort(costs)
	return costs[len(costs)/2]
}

// BenchmarkLookupByID looks up random tenants by their number.
func BenchmarkLookupByID(b *testing.B) {
	for name, n := range sizes() {
		tab, _ := onDisk(b, n)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tab.View().ByID(directory.TenantID(rand.IntN(n) + 1))
			}
		})
	}
}

// BenchmarkColdStart reads the table from disk, ready for look-ups.
func BenchmarkColdStart(b *testing.B) {
	for name, n := range sizes() {
		_, path := onDisk(b, n)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := NewDisk(path, "", New(), quiet()).Load(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPack packs a snapshot.
func BenchmarkPack(b *testing.B) {
	for name, n := range sizes() {
		u := fleet(n)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := packRoutes(u.Routes, cellIndex(u.Cells)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkApply changes one tenant of a million.
func BenchmarkApply(b *testing.B) {
	tab := New()
	apply(b, tab, snapshot(million))
	version := tab.View().Version()
	b.ReportAllocs()
	for b.Loop() {
		id := rand.IntN(million) + 1
		u := directory.Update{Since: version, Version: version + 1, Routes: []directory.Route{route(id, "c2", int(version), slug(id))}}
		apply(b, tab, u)
		version++
	}
}
