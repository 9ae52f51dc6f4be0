package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"
)

// A Direct decides about plain requests without the Handler: those that are
// whole in what was received, ask for no tunnel, and get an answer that is
// neither an event stream nor a refusal of the tenant. For them there is no
// http.Request, no context and no timer of their own, and nothing is allocated.
type Direct interface {
	// Take says what becomes of a request.
	Take(f *Flight) Course
	// Done is told how a flight has ended. Where the Handler takes over a flight
	// (TakenOver says so), Done is not called.
	Done(f *Flight)
}

// A Course is what becomes of a request.
type Course uint8

// The courses.
const (
	ByHandler Course = iota // the Handler serves it, as if Take had not been asked
	Flies                   // it goes where the Flight says
	Waits                   // for something that the Handler waits for: it takes over the flight
	Refused                 // the answer is the Flight's Status, Reply and Text
)

// A Flight is a plain request and its answer. Take fills in Outgoing's Fields,
// Drop, DropAnswer and Answered, and what follows Began.
type Flight struct {
	Outgoing
	Request *Request             // its strings are parts of the connection's buffer: they live until Done
	Peer    string               // the client's address, without the port
	TLS     *tls.ConnectionState // how its connection is encrypted; nil: it is not
	Began   time.Time

	To      *Upstream
	Timeout time.Duration // for the whole answer; up to an eighth more, or up to a second in a loop
	Reply   []Field       // of the answer, after the cell's
	Text    []byte        // the body of the answer, of one that is Refused
	State   any           // of who takes; kept from one flight to another one

	// For Done.
	Status int // also from Take, of one that is Refused
	Bytes  int64
	Err    error // the answer was cut
}

// errUnusual says that an answer has begun that is for the Handler.
var errUnusual = errors.New("the answer is for the handler")

// plain reports whether the request that was read may be a flight.
func (c *conn) plain() bool {
	n := c.req.Length()
	return c.srv.Direct != nil && n >= 0 && int64(n) <= int64(c.to-c.from) && !c.req.WebSocket() && !c.req.Continue()
}

// firstBytes is how much of an answer a loop reads before the client has taken any. A
// longer one mostly needs a goroutine.
const firstBytes = 64 << 10

// take asks Direct for the request that was read. The relay is nil where none is needed
// yet: who waits has none of its memory.
func (c *conn) take(now time.Time) (*relay, Course) {
	f := &c.flight
	f.Request, f.Peer, f.TLS, f.Began = &c.req, c.ip, c.secured, now
	course := c.srv.Direct.Take(f)
	if course == ByHandler {
		return nil, course
	}
	c.bodyDone.Store(true)
	if course == Waits {
		c.waits = true
		return nil, course
	}
	c.w.begin()
	c.w.reply = f.Reply
	t := relays.Get().(*relay)
	t.u, t.w, t.c, t.o, t.began, t.flight = f.To, &c.w, c, &f.Outgoing, now, f
	return t, course
}

// fly serves the request as a flight, if Direct takes it. Where the handler must
// serve it, served is false; ok is false where the connection ends.
func (c *conn) fly(now time.Time) (served, ok bool) {
	defer c.caught(nil, &served, &ok)
	t, course := c.take(now)
	loops := course != ByHandler && (c.flight.To == nil || c.flight.To.TLS == nil)
	switch course {
	case Flies:
		served, ok = c.cross(t)
	case Refused:
		served, ok = c.turnDown(t)
	}
	c.flew = loops && served && c.w.bytes <= firstBytes
	return served, ok
}

// turnDown serves a flight that is refused.
func (c *conn) turnDown(t *relay) (served, ok bool) {
	defer c.caught(t, &served, &ok)
	c.startWatching() // as touchDown expects
	return c.touchDown(t, c.w.refuse(t.flight))
}

// cross serves a flight from its launch on, as fly does.
func (c *conn) cross(t *relay) (served, ok bool) {
	defer c.caught(t, &served, &ok)
	c.startWatching()
	l, err := t.u.get(c.ctx, false)
	if err == nil {
		l.extend(t.began, t.flight.Timeout)
		c.waitsFor(l)
		err = t.glide(l, t.launch(l))
	}
	return c.touchDown(t, err)
}

// touchDown ends a flight in a goroutine, as fly does.
func (c *conn) touchDown(t *relay, err error) (served, ok bool) {
	defer c.caught(t, &served, &ok)
	c.stopWatching()
	if !c.landed(t, err) {
		return false, false
	}
	if c.mustClose && err == nil && c.lasts() {
		c.linger()
	}
	return true, err == nil && !c.mustClose
}

// caught ends a connection on which a Direct has panicked.
func (c *conn) caught(t *relay, served, ok *bool) {
	if cause := recover(); cause != nil {
		*served, *ok, c.reset = true, false, true
		c.crashed(t)
		c.panicked(cause)
	}
}

// StatusClientLeft is what logs and metrics say of a client that went away; it is nobody's
// fault and never sent to anybody.
const StatusClientLeft = 499

// landed ends a flight; false where the handler must go on with it.
func (c *conn) landed(t *relay, err error) bool {
	if err != nil && !c.w.headed && c.w.err == nil { // else nothing may follow a part of a 1xx answer
		t.failed = err
		c.taken, c.relaying = t, nil // Forward goes on with it
		return false
	}
	f := t.flight
	f.Status, f.Bytes, f.Err = c.w.status, c.w.bytes, nil
	switch {
	case err == nil:
	case c.w.headed && !c.parted(err):
		c.reset, f.Err = true, http.ErrAbortHandler
	case c.w.headed:
		c.reset, f.Err = true, context.Canceled
	default:
		c.reset, f.Status, f.Err = true, StatusClientLeft, context.Canceled
	}
	c.srv.Direct.Done(f)
	t.free()
	c.from += int(c.req.Length())
	return true
}

// parted reports whether it is its client for which an answer is cut.
func (c *conn) parted(err error) bool {
	return c.ctx.Err() != nil || errors.Is(err, context.Canceled) || c.w.err != nil && !errors.Is(c.w.err, ErrSlow)
}

func (c *conn) panicked(cause any) {
	if c.srv.Panicked != nil {
		c.srv.Panicked(cause)
	}
}

// crashed ends a flight that has panicked: its link, and what was taken for it.
func (c *conn) crashed(t *relay) {
	if t != nil {
		c.waitsFor(nil)
		if c.watch != nil { // nil in a loop
			c.stopWatching()
		}
		if t.link != nil {
			_ = t.link.Close()
		}
	}
	defer func() { _ = recover() }() // of a Done that has panicked already
	c.flight.Status, c.flight.Err = http.StatusInternalServerError, http.ErrAbortHandler
	c.srv.Direct.Done(&c.flight)
}

// TakenOver is the flight that the handler's request was until now, nil where it
// was none. Forward goes on with the answer that has begun, or returns why there is
// none, whichever Upstream it is called of.
func TakenOver(w http.ResponseWriter) *Flight {
	if c := connOf(w); c != nil && (c.taken != nil || c.waits) {
		return &c.flight
	}
	return nil
}

// dropTaken ends a flight that no handler went on with.
func (c *conn) dropTaken() {
	c.waits = false
	if t := c.taken; t != nil {
		c.taken = nil
		if t.link != nil {
			_ = t.link.Close()
		}
		t.free()
	}
}

// launch sends the request.
func (t *relay) launch(l *link) error {
	t.link, t.from, t.to = l, 0, 0
	q := &t.c.req
	t.x.Begin(t.limits(), q.Method() == http.MethodHead, false, q.Minor() == 1)
	return t.sendPlain()
}

// glide relays the answer, unless err says that there is none, up to where it is
// unusual. Then it keeps the link.
func (t *relay) glide(l *link, err error) error {
	t.c.relaying = t
	if err == nil {
		err = t.answer()
	}
	t.c.waitsFor(nil)
	switch {
	case err == nil && t.x.Reusable(t.to-t.from) && t.c.ctx.Err() == nil:
		t.u.put(l)
	case errors.Is(err, errUnusual):
		return err
	default:
		_ = l.Close()
	}
	t.link = nil
	if err != nil {
		return t.stale(l, err)
	}
	return nil
}

// sendPlain sends a request of which everything was received.
func (t *relay) sendPlain() error {
	q, c := &t.c.req, t.c
	n := q.Length()
	t.head(n, n > 0 || sizedWithout(q))
	t.out = append(t.out, c.in[c.from:c.from+int(n)]...)
	t.sent = true
	return t.write()
}

// takeOver is the flight that the handler goes on with, or a new relay. A flight that was
// sent counts wherever it went: u may be another Upstream of the same cell by now.
func (c *conn) takeOver(u *Upstream) *relay {
	t := c.taken
	if t == nil {
		t = relays.Get().(*relay)
		t.u, t.c, t.began = u, c, time.Now()
		return t
	}
	c.taken, t.flight = nil, nil
	if t.link == nil {
		t.u = u // where it may be sent again
	}
	return t
}

// start sends the request, or goes on with a flight: with its answer, or with why
// there is none.
func (t *relay) start() error {
	l := t.link
	switch {
	case l == nil && t.failed == nil:
		return t.run(false)
	case l == nil:
		return t.failed
	}
	reusable := false
	defer func() { t.part(l, reusable) }()
	t.watch()
	done, err := t.begin()
	if err == nil && !done {
		err = t.answer()
	}
	if err != nil {
		return err
	}
	reusable = t.x.Reusable(t.to-t.from) && t.stream == nil
	return nil
}

// extend puts off the link's deadline to timeout after now, and an eighth more so
// that it need not be done again soon.
func (l *link) extend(now time.Time, timeout time.Duration) {
	if timeout <= 0 || l.until.After(now.Add(timeout)) {
		return
	}
	l.until = now.Add(timeout + timeout/8)
	_ = l.SetDeadline(l.until) // reading will report it
}

// ipOf is the host of an address.
func ipOf(addr string) string {
	ip, _, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return ip
}
