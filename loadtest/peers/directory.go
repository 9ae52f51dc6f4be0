package peers

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
)

// A feed is the directory that our router follows: one table that never changes,
// with every tenant in one cell, the origin.
type feed struct {
	url    string
	server *http.Server
	ended  chan error
}

func startFeed(tenants int, originAddr string) (*feed, error) {
	u := directory.Update{Version: 1, Cells: []directory.CellRoute{{ID: "c1", Address: "http://" + originAddr, State: directory.Ready}}}
	for n := range tenants {
		slug, _, _ := strings.Cut(host(n), ".")
		u.Routes = append(u.Routes, directory.Route{
			Slug: slug, Placement: directory.Placement{Tenant: directory.TenantID(n + 1), Cell: "c1", Epoch: 1, State: directory.Active},
		})
	}
	whole, err := json.Marshal(u)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	table := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(whole)
	}
	mux.HandleFunc("GET /v1/table", table)
	mux.HandleFunc("GET /v1/table/changes", func(w http.ResponseWriter, r *http.Request) {
		since, _ := strconv.ParseInt(r.URL.Query().Get("since"), 10, 64)
		if since < 1 {
			table(w, r)
			return
		}
		wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(directory.Update{Since: directory.Version(since), Version: directory.Version(since)})
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &feed{url: "http://" + ln.Addr().String(), ended: make(chan error, 1)}
	// Closing ends the long polls, whose contexts are the connections'.
	f.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { f.ended <- f.server.Serve(ln) }()
	return f, nil
}

func (f *feed) close(context.Context) error {
	err := f.server.Close()
	if ended := <-f.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
