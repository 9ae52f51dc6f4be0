package table

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
)

const million = 1_000_000

// BenchmarkLookup looks up random tenants of a million by their slug. p50 and
// p99 are of single lookups; the clock's own cost, about 25 ns, is in them.
func BenchmarkLookup(b *testing.B) {
	tab := New()
	apply(b, tab, snapshot(million))
	for i := range 100 { // some changes on top, as there always are
		apply(b, tab, delta(100+i, 101+i, route(i+1, "c3", 2, slug(i+1))))
	}
	slugs := make([]string, 1<<16)
	for i := range slugs {
		slugs[i] = slug(rand.IntN(million) + 1)
	}
	took := make([]time.Duration, len(slugs))
	for i, s := range slugs {
		began := time.Now()
		_, ok := tab.View().BySlug(s)
		took[i] = time.Since(began)
		if !ok {
			b.Fatalf("%s not found", s)
		}
	}
	slices.Sort(took)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		tab.View().BySlug(slugs[i&(len(slugs)-1)])
		i++
	}
	v := tab.View()
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
	b.ReportMetric(float64(v.Bytes())/float64(v.Tenants()), "B/tenant")
}

// BenchmarkLookupByID looks up random tenants of a million by their number.
func BenchmarkLookupByID(b *testing.B) {
	tab := New()
	apply(b, tab, snapshot(million))
	b.ReportAllocs()
	for b.Loop() {
		tab.View().ByID(directory.TenantID(rand.IntN(million) + 1))
	}
}

// BenchmarkColdStart reads a million tenants from disk, ready for look-ups.
func BenchmarkColdStart(b *testing.B) {
	path := filepath.Join(b.TempDir(), "table")
	tab := New()
	apply(b, tab, snapshot(million))
	if err := NewDisk(path, tab, quiet()).save(tab.View()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := NewDisk(path, New(), quiet()).Load(b.Context()); err != nil {
			b.Fatal(err)
		}
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
