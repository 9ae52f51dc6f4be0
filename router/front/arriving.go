package front

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// A request over HTTP/2 costs its client a hundred bytes and us some twenty kilobytes, and
// one connection has many. So those whose client is waited for, for a body or to take a
// refusal, are a crowd over all connections.
const (
	arrivals   = 8192
	arriveTime = time.Second // after which one gives way to another, where they are too many
	goodbye    = time.Second // for the answer to one that has to
)

type connKey struct{}

// connContext keeps which connection it is.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, nc)
}

type guestKey struct{}

// Arrived notes that ctx's request has all that it needs of its client to go on, and is
// counted elsewhere from now on. It may be called for any, more than once.
func Arrived(ctx context.Context) {
	if gone, ok := ctx.Value(guestKey{}).(func()); ok {
		gone()
	}
}

// arriving has requests to next come in with the crowd, and tells it how they are encrypted.
func (s *Server) arriving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		hurry := func() { _ = rc.SetWriteDeadline(time.Now().Add(goodbye)) } // a write will report it
		g := &guest{cut: func() {
			s.o.Metrics.crowded("cut")
			_ = rc.SetReadDeadline(time.Unix(1, 0)) // who reads the body will report it
			hurry()
		}}
		var state *tls.ConnectionState
		if c, ok := r.Context().Value(connKey{}).(*guarded); ok {
			state, g.from = c.tls, c.from
		}
		inside := r.ContentLength != 0
		if inside && !s.arrivals.enter(g) {
			s.o.Metrics.crowded("refused")
			hurry()
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable) // without a body: no window of the client's keeps it here
			return
		}
		leave := func() { // the lock is of all requests: who is not inside does not need it
			if inside {
				inside = false
				s.arrivals.leave(g)
			}
		}
		defer leave()
		arrived := false
		r = r.WithContext(context.WithValue(r.Context(), guestKey{}, func() {
			arrived = true
			leave()
		}))
		r.TLS = state
		next.ServeHTTP(w, r)
		if arrived {
			return
		}
		if inside = inside || s.arrivals.enter(g); inside { // what is left of the answer would be written when nobody counts it
			_ = rc.Flush() // the connection's end says why it failed
			return
		}
		s.o.Metrics.crowded("hurried")
		hurry()
	})
}
