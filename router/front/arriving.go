package front

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

// A request over HTTP/2 costs its client a hundred bytes and us some twenty kilobytes, and
// one connection has many. So those whose client is waited for, for a body or to take a
// refusal, are a crowd over all connections.
const (
	arrivals      = 8192
	arriveTime    = time.Second      // after which one gives way to another, where they are too many
	ownArriveTime = 10 * time.Second // the same, to another of its own address
	goodbye       = time.Second      // for the answer to one that has to
)

type connKey struct{}

// connContext keeps which connection it is.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, nc)
}

type arrivalKey struct{}

// arrivalOf is ctx's; nil where it has none.
func arrivalOf(ctx context.Context) *arrival {
	a, _ := ctx.Value(arrivalKey{}).(*arrival)
	return a
}

// Await notes that ctx's request waits for its client to send a body, or says why it may
// not: too many do, or too many of its address. It may be called for any request, as
// Arrived and Refused may, by who serves it.
func Await(ctx context.Context) error {
	a := arrivalOf(ctx)
	if a == nil || a.guest != nil {
		return nil
	}
	err := a.enter(true)
	if err != nil {
		a.s.o.Metrics.crowded("refused")
	}
	return err
}

// errLate is for who had to give way with only a part of its body there.
var errLate = problem.New(problem.RateLimited, "the body has not come in time").After(time.Second)

// Arrived notes that ctx's request has all that it needs of its client to go on, and is
// counted elsewhere from now on. Where it was cut that is so only if its body is whole: of
// another, no more would come.
func Arrived(ctx context.Context, whole bool) error {
	a := arrivalOf(ctx)
	switch {
	case a == nil:
		return nil
	case !a.leave():
	case !whole:
		return errLate
	default: // it was cut too late
		_ = a.rc().SetWriteDeadline(time.Now().Add(a.s.o.Whole)) // where it cannot be set any more, a write reports it
	}
	a.gone = true
	return nil
}

// Refused notes that ctx's request goes no further: all that it waits for is that its client
// takes the answer.
func Refused(ctx context.Context) {
	if a := arrivalOf(ctx); a != nil {
		a.refused()
	}
}

// An arrival is a request over HTTP/2. Only its handler's goroutine uses it.
type arrival struct {
	s       *Server
	w       http.ResponseWriter
	from    netip.Prefix
	guest   *guest // of the crowd; nil: outside
	gone    bool   // it is counted elsewhere
	hurried bool
}

// rc is made anew: most requests need none.
func (a *arrival) rc() *http.ResponseController { return http.NewResponseController(a.w) }

func (a *arrival) enter(pushing bool) error {
	g := &guest{from: a.from, cut: a.cut}
	err := a.s.arrivals.enter(g, pushing)
	if err == nil {
		a.guest = g
	}
	return err
}

// leave reports whether it was cut.
func (a *arrival) leave() bool {
	g := a.guest
	a.guest = nil
	return g != nil && a.s.arrivals.leave(g)
}

// cut is called by another goroutine than the handler's, which leave waits for.
func (a *arrival) cut() {
	a.s.o.Metrics.crowded("cut")
	_ = a.rc().SetReadDeadline(time.Unix(1, 0)) // who reads the body will report it
	a.hurry()
}

func (a *arrival) hurry() {
	_ = a.rc().SetWriteDeadline(time.Now().Add(goodbye)) // a write will report it
}

// refused has the answer taken in the crowd, or soon. Nobody has to give way to it.
func (a *arrival) refused() {
	if a.gone = false; a.guest != nil || a.hurried || a.enter(false) == nil {
		return
	}
	a.hurried = true
	a.s.o.Metrics.crowded("hurried")
	a.hurry()
}

// roomy makes the stack of its goroutine as large as most requests need it, in one step and
// while there is little on it: net/http begins a goroutine for each, and one that grows
// while it goes deeper has all its frames looked through and copied, twice.
//
//go:noinline
func roomy(used int) byte {
	if used == 0 {
		return 0
	}
	var room [stackRoom]byte
	return room[used]
}

// stackRoom makes a stack of 8 KiB, in which usual requests have room (it was counted by a probe of runtime.copystack: one for
// each). One of 16 costs more: the runtime keeps but two of them ready for each processor.
const stackRoom = 5 << 10

// arriving lets requests to next say when they wait for their client, and tells it how they
// are encrypted.
func (s *Server) arriving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		roomy(0)
		a := &arrival{s: s, w: w}
		defer a.leave()
		var state *tls.ConnectionState
		if c, ok := r.Context().Value(connKey{}).(*guarded); ok {
			state, a.from = c.tls, c.from
		}
		r = r.WithContext(context.WithValue(r.Context(), arrivalKey{}, a))
		r.TLS = state
		next.ServeHTTP(w, r)
		if a.gone {
			return
		}
		if a.refused(); a.guest != nil { // what is left of the answer would be written when nobody counts it
			_ = a.rc().Flush() // the connection's end says why it failed
		}
	})
}
