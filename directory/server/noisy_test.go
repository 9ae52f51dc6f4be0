package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/server"
	"github.com/cellway/cellway/directory/token"
)

// TestX33AMillionTenants: somebody creates tenants without end, as an operator or
// by signing up from many addresses. What comes of it is bounded, each refusal is
// 409 or 429 with what to do, and another caller is served.
func TestX33AMillionTenants(t *testing.T) {
	t.Parallel()
	const asked, most = 400, 40 // of each kind
	operators := func(int) []string { return nil }
	public := func(i int) []string {
		return []string{"Authorization: ", fmt.Sprintf("X-Forwarded-For: 198.18.%d.%d", i/256, i%256)}
	}
	for name, tt := range map[string]struct {
		path   string
		from   func(i int) []string
		change func(*directorytest.Memory, *server.Options)
		status int
		reason string
	}{
		"quota of the directory": {"/v1/tenants", operators, func(m *directorytest.Memory, _ *server.Options) { m.Quotas.Tenants = most }, 409, "directory_quota"},
		"quota of the caller":    {"/v1/tenants", operators, func(m *directorytest.Memory, _ *server.Options) { m.Quotas.PerCaller = most }, 409, "caller_quota"},
		"rate of the caller":     {"/v1/tenants", operators, func(_ *directorytest.Memory, o *server.Options) { o.TenantsPerMinute = most }, 429, "caller_rate"},
		"quota of sign-ups":      {"/signup", public, func(m *directorytest.Memory, _ *server.Options) { m.Quotas.PerCaller = most }, 409, "caller_quota"},
		"rate of sign-ups":       {"/signup", public, func(_ *directorytest.Memory, o *server.Options) { o.TenantsPerMinute = most }, 429, "caller_rate"},
		"sign-ups from a /64": {"/signup", func(i int) []string {
			return []string{"Authorization: ", fmt.Sprintf("X-Forwarded-For: 2001:db8::%x:%x", i/99, i)}
		}, func(_ *directorytest.Memory, o *server.Options) { o.SignupsPerMinute = most }, 429, "address_rate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := directorytest.NewMemory()
			began := time.Now()
			m.Now = func() time.Time { return began } // nobody beats for the cell
			if _, err := m.AddCell(t.Context(), directory.Cell{ID: "c1", Address: "http://c1", Capacity: 1e6, Incarnation: "i1"}); err != nil {
				t.Fatal(err)
			}
			b := serve(t, m, func(o *server.Options) { tt.change(m, o) })
			var made, refused, next atomic.Int64
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for i := next.Add(1); i <= asked; i = next.Add(1) {
						got := b.call(t, "POST", tt.path, fmt.Sprintf(`{"slug":"n%d"}`, i), tt.from(int(i))...)
						switch {
						case got.status == http.StatusCreated:
							made.Add(1)
						case got.status != tt.status || !strings.Contains(string(got.body), `"detail":"`) || tt.status == 429 && got.header.Get("Retry-After") == "":
							t.Errorf("got %d %s", got.status, got.body)
						default:
							refused.Add(1)
						}
					}
				})
			}
			wg.Wait()
			// A rate lets in more as time goes by.
			if n := made.Load(); n < most || tt.status == 409 && n != most || n > asked/2 || n+refused.Load() != asked {
				t.Errorf("got %d tenants and %d refusals of %d, want %d", n, refused.Load(), asked, most)
			}
			want := fmt.Sprintf("# HELP directory_tenants_refused_total Tenants not created, by the bound that was met: address_rate, caller_rate, caller_quota, directory_quota.\n"+
				"# TYPE directory_tenants_refused_total counter\ndirectory_tenants_refused_total{reason=%q} %d\n", tt.reason, refused.Load())
			if err := testutil.GatherAndCompare(b.registry, strings.NewReader(want), "directory_tenants_refused_total"); err != nil {
				t.Error(err)
			}
			_, err := m.CreateTenant(directory.WithActor(t.Context(), "another"), directory.NewTenant{Slug: "another"})
			if (err == nil) == (tt.reason == "directory_quota") {
				t.Errorf("another caller: got %v", err)
			}
			if _, err := b.client(t, token.Router).Snapshot(t.Context()); err != nil {
				t.Errorf("a router: %v", err)
			}
		})
	}
}
