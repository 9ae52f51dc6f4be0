package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func page(h http.Handler, path string) (int, string) {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	return rec.Code, rec.Body.String()
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	a := NewAdmin()
	h := a.Handler(prometheus.NewRegistry())
	var broken error
	a.Check("postgres", func(context.Context) error { return nil })
	a.Check("redis", func(context.Context) error { return broken })
	want := func(step, path string, status int, parts ...string) {
		t.Helper()
		got, body := page(h, path)
		if got != status {
			t.Errorf("%s: %s: got %d, want %d: %s", step, path, got, status, body)
		}
		for _, p := range parts {
			if !strings.Contains(body, p) {
				t.Errorf("%s: %s: got %q, want it to contain %q", step, path, body, p)
			}
		}
	}
	want("starting", "/livez", 200)
	want("starting", "/startupz", 503)
	want("starting", "/readyz", 503, "[-] starting or draining", "[+] postgres ok")
	a.SetReady(true)
	want("ready", "/startupz", 200)
	want("ready", "/readyz", 200, "ok")
	want("ready", "/healthz", 200, "ok")
	want("ready", "/readyz?verbose", 200, "[+] postgres ok\n[+] redis ok\n")
	broken = errors.New("refused")
	want("a check fails", "/readyz", 503, "[-] redis: refused")
	want("a check fails", "/livez", 200)
	a.SetReady(false)
	broken = nil
	want("draining", "/readyz", 503)
}

func TestAdminPages(t *testing.T) {
	t.Parallel()
	a, reg := NewAdmin(), prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "things_total", Help: "Things."})
	reg.MustRegister(c)
	a.Handle("GET /explain", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "because") }))
	h := a.Handler(reg)
	for path, part := range map[string]string{
		"/metrics": "things_total 0", "/explain": "because", "/debug/pprof/": "goroutine",
	} {
		if code, body := page(h, path); code != 200 || !strings.Contains(body, part) {
			t.Errorf("%s: got %d %q, want 200 with %q", path, code, body, part)
		}
	}
	if code, _ := page(h, "/nothing"); code != 404 {
		t.Errorf("got %d for a page that is not there, want 404", code)
	}
	_, body := page(h, "/version")
	var got map[string]string
	if err := json.Unmarshal([]byte(body), &got); err != nil || got["version"] != Version || got["goversion"] == "" {
		t.Errorf("version: got %v (%v)", got, err)
	}
}

func TestChecksMayBeAddedWhileTheyAreAsked(t *testing.T) {
	t.Parallel()
	a := NewAdmin()
	h := a.Handler(prometheus.NewRegistry())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { a.Check(fmt.Sprint(i), func(context.Context) error { return nil }) })
		wg.Go(func() { page(h, "/readyz") })
	}
	wg.Wait()
}
