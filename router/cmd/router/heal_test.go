package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/config"
)

// TestF14CutOffRestartedAndHealed: a router that is cut off from the directory,
// and is started again meanwhile, serves from disk; healed, it knows what is new.
func TestF14CutOffRestartedAndHealed(t *testing.T) {
	t.Parallel()
	cell := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") }))
	defer cell.Close()
	m := directorytest.NewMemory()
	if _, err := m.AddCell(t.Context(), directory.Cell{ID: "c1", Address: cell.URL, Capacity: 10, Incarnation: "db"}); err != nil {
		t.Fatal(err)
	}
	create := func(slug string) {
		t.Helper()
		if _, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: slug}); err != nil {
			t.Fatal(err)
		}
	}
	create("acme")
	var cut atomic.Bool
	feed := httptest.NewServer(overHTTP(m, &cut))
	defer feed.Close()
	var s settings
	if err := config.Load(prefix, environ(t, "ROUTER_AUTH=optional", "ROUTER_DIRECTORY_URL="+feed.URL), &s); err != nil {
		t.Fatal(err)
	}
	run := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- serve(ctx, s) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	serves := func(slug string) bool { return status("http://"+s.ListenAddr+"/t/"+slug+"/x") == 200 }

	stop := run()
	eventually(t, func() bool { return serves("acme") })
	cut.Store(true)
	create("bolt")
	stop()
	stop = run()
	defer func() { stop() }()
	eventually(t, func() bool { return status("http://"+s.AdminAddr+"/readyz") == 200 })
	if !serves("acme") || serves("bolt") {
		t.Error("started again without a directory: want acme served from disk and bolt unknown")
	}
	cut.Store(false)
	eventually(t, func() bool { return serves("bolt") })
}

// overHTTP is a directory's feed, as far as a router asks for it, behind a network
// that can be cut.
func overHTTP(m *directorytest.Memory, cut *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any, err error) {
		if err != nil || cut.Load() {
			panic(http.ErrAbortHandler)
		}
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /v1/table", func(w http.ResponseWriter, r *http.Request) {
		u, err := m.Snapshot(r.Context())
		answer(w, u, err)
	})
	mux.HandleFunc("GET /v1/table/changes", func(w http.ResponseWriter, r *http.Request) {
		since, _ := strconv.ParseInt(r.URL.Query().Get("since"), 10, 64)
		wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
		u, err := m.Changes(r.Context(), r.URL.Query().Get("router"), directory.Version(since), wait)
		answer(w, u, err)
	})
	mux.HandleFunc("GET /v1/credentials", func(w http.ResponseWriter, r *http.Request) {
		since, _ := strconv.ParseInt(r.URL.Query().Get("since"), 10, 64)
		wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
		c, err := m.Credentials(r.Context(), directory.Version(since), wait)
		answer(w, c, err)
	})
	return mux
}
