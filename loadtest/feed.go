package loadtest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/cellway/cellway/directory"
)

// A Feed is a directory for a router that is measured alone: one table that never changes.
type Feed struct {
	URL    string
	server *http.Server
}

// NewFeed serves the table at version 1 until Close.
func NewFeed(cells []directory.CellRoute, routes []directory.Route) (*Feed, error) {
	whole, err := json.Marshal(directory.Update{Version: 1, Cells: cells, Routes: routes})
	if err != nil {
		return nil, fmt.Errorf("make the table: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/table", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(whole) })
	mux.HandleFunc("GET /v1/table/changes", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("since") != "1" {
			_, _ = w.Write(whole)
			return
		}
		wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
		Pause(r.Context(), wait)
		_ = json.NewEncoder(w).Encode(directory.Update{Since: 1, Version: 1})
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve the table: %w", err)
	}
	f := &Feed{URL: "http://" + ln.Addr().String(), server: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}
	go func() { _ = f.server.Serve(ln) }() // until Close
	return f, nil
}

// Close ends the long polls, too: their contexts are the connections'.
func (f *Feed) Close() error { return f.server.Close() }
