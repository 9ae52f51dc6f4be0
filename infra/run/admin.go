package run

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/pprof"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Version is set by the linker (-X .../infra/run.Version=...).
var Version = "dev"

// APIVersion marks the JSON and YAML that our commands print; members are added to it
// and never change their meaning.
const APIVersion = "cellway/v1"

// A Check says whether something that readiness depends on works now. It must
// return quickly and honour ctx. It never asks another cell.
type Check func(ctx context.Context) error

// An Admin is the listener for operators and their tools, apart from tenant
// traffic: /livez, /readyz, /startupz (alias /healthz), /metrics, /version and
// /debug/pprof. The zero Admin is not ready until Ready is called.
type Admin struct {
	mu     sync.Mutex
	checks map[string]Check
	ready  atomic.Bool
	extra  http.ServeMux
}

// NewAdmin makes an Admin that is not ready yet.
func NewAdmin() *Admin { return &Admin{checks: map[string]Check{}} }

// Check adds a readiness check.
func (a *Admin) Check(name string, c Check) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checks[name] = c
}

// SetReady says that start-up is over (true) or that the process drains (false).
func (a *Admin) SetReady(ready bool) { a.ready.Store(ready) }

// Handle adds a page to the admin listener; pattern as in net/http.
func (a *Admin) Handle(pattern string, h http.Handler) { a.extra.Handle(pattern, h) }

// Handler serves the pages; reg is what /metrics shows.
func (a *Admin) Handler(reg *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	ok := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }
	mux.HandleFunc("GET /livez", ok)
	mux.HandleFunc("GET /startupz", a.startup)
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /healthz", a.readyz)
	mux.HandleFunc("GET /version", version)
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.Handle("/", &a.extra)
	return mux
}

func (a *Admin) startup(w http.ResponseWriter, _ *http.Request) {
	if !a.ready.Load() {
		http.Error(w, "starting or draining", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// Failing is why a readiness check fails, nil where none does.
func (a *Admin) Failing(ctx context.Context) error {
	a.mu.Lock()
	checks := maps.Clone(a.checks)
	a.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(checks)) {
		if err := checks[n](ctx); err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	return nil
}

// readyz runs every check; ?verbose names each, as Kubernetes does.
func (a *Admin) readyz(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	checks := maps.Clone(a.checks)
	a.mu.Unlock()

	status, lines := http.StatusOK, ""
	if !a.ready.Load() {
		status, lines = http.StatusServiceUnavailable, "[-] starting or draining\n"
	}
	for _, n := range slices.Sorted(maps.Keys(checks)) {
		if err := checks[n](r.Context()); err != nil {
			status, lines = http.StatusServiceUnavailable, lines+fmt.Sprintf("[-] %s: %v\n", n, err)
			continue
		}
		lines += fmt.Sprintf("[+] %s ok\n", n)
	}
	w.WriteHeader(status)
	if r.URL.Query().Has("verbose") || status != http.StatusOK {
		fmt.Fprint(w, lines)
		return
	}
	fmt.Fprintln(w, "ok")
}

func version(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(BuildInfo())
}

// BuildInfo says what this binary was built from.
func BuildInfo() map[string]string {
	out := map[string]string{"version": Version, "goversion": runtime.Version(), "revision": ""}
	if bi, ok := debug.ReadBuildInfo(); ok {
		for _, s := range bi.Settings {
			if s.Key == "vcs.revision" {
				out["revision"] = s.Value
			}
		}
	}
	return out
}
