package router

import (
	"log/slog"
	"net/http"
	"time"
)

const (
	headTimeout = 10 * time.Second
	clientIdle  = 2 * time.Minute
	maxHeadIn   = 32 << 10 // bytes of a request's head; over it the answer is 431
)

// NewServer is the server of the tenants' listener: nothing that a client does
// or leaves undone holds a connection without end.
func (rt *Router) NewServer() *http.Server {
	whole := rt.whole()
	s := &http.Server{
		Handler:           rt.Handler(),
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       whole,
		WriteTimeout:      whole,
		IdleTimeout:       clientIdle,
		MaxHeaderBytes:    maxHeadIn,
		ErrorLog:          slog.NewLogLogger(rt.Log.Handler(), slog.LevelDebug),
	}
	s.RegisterOnShutdown(rt.streams.Close) // their clients find another router
	return s
}

// whole is for a whole exchange: upload, both windows of holding, two attempts.
func (rt *Router) whole() time.Duration { return headTimeout + 2*rt.Hold.Time + 2*rt.CellTimeout }

// Retire sends clients elsewhere without a failure: from now on each answer is its
// connection's last (of HTTP/2: a GOAWAY goes with it).
func (rt *Router) Retire() { rt.retiring.Store(true) }

// EndStreams ends event streams, also those that are opened after it.
func (rt *Router) EndStreams() { rt.streams.Close() }

// sayClose makes the answer its connection's last, where the router retires.
func (rt *Router) sayClose(w http.ResponseWriter, r *http.Request) {
	if rt.retiring.Load() && r.Header.Get("Upgrade") == "" {
		w.Header().Set("Connection", "close")
	}
}
