package h1

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Field is a header field.
type Field struct{ Name, Value string }

// An Outgoing says how a request and its answer change on their way. What is nil
// changes nothing.
type Outgoing struct {
	Fields     []Field                // of the request; they replace the client's of the same name
	Drop       func(name string) bool // fields of the client's that do not reach the cell
	DropAnswer func(name string) bool // fields of the cell's that do not reach the client
	// Answered is told that the answer has begun after d, or (!ok) that it will not.
	Answered func(d time.Duration, ok bool)
	// Again is asked before a request is sent a second time because the cell had
	// closed the connection while it was idle; nil allows it.
	Again func() bool
	// Misdirected takes an answer with status 421, which is not passed on.
	Misdirected func(*http.Response) error
	// Stream is asked where the answer is an event stream: from then on it has no
	// deadline but one for each write to the client. end ends it, whole for the
	// client; done is called when it has ended. An error keeps it back. It is asked
	// before a tunnel, too, whose client end tells why in a close frame, at the end of
	// the frame under way; then the tunnel ends within two seconds. end does not wait.
	Stream func(end func(Ending)) (done func(), err error)
	// Slow is told, once and from another goroutine, that the client keeps the exchange
	// waiting. Where it returns false the exchange is cut, with ErrSlow.
	Slow func() bool
}

// Forward sends the request that a Server serves to u, and its answer to w, which
// may wrap the Server's with Unwrap. Of r it takes the context and the
// body; the head is the one that was received, changed by o. For another
// server's w it makes the head of r: see Check.
//
// An error means that nothing was written to w: the network's, a Fault of the
// answer, io.ErrUnexpectedEOF where the answer's head was cut, Misdirected's, or
// the body's. Once an answer has begun and cannot be finished, Forward panics
// with http.ErrAbortHandler.
func (u *Upstream) Forward(w http.ResponseWriter, r *http.Request, o *Outgoing) error {
	c := connOf(w)
	if c == nil {
		return u.forwardForeign(w, r, o)
	}
	t := c.takeOver(u)
	defer t.free()
	t.w, t.r, t.o = w, r, o
	c.relaying = t
	err := t.start()
	if errors.Is(err, errStale) {
		if err = io.ErrUnexpectedEOF; o.Again == nil || o.Again() {
			err = t.run(true)
		}
	}
	if err == nil {
		return nil
	}
	if c.w.headed || c.w.err != nil { // nothing may follow a part of an answer, an interim one neither
		if c.parted(err) {
			c.cancel() // who asks the context why the answer is cut is told that the client has left
		}
		panic(http.ErrAbortHandler)
	}
	if o.Answered != nil && !t.told && !errors.Is(err, ErrNoFiles) {
		o.Answered(time.Since(t.began), false)
	}
	if c.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	return err
}

// connOf is the connection whose writer w is or wraps.
func connOf(w http.ResponseWriter) *conn {
	for {
		switch v := w.(type) {
		case *writer:
			return v.c
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return nil
		}
	}
}

// A relay is one Forward.
type relay struct {
	u     *Upstream
	w     http.ResponseWriter
	c     *conn
	r     *http.Request
	o     *Outgoing
	began time.Time
	told  bool // Answered was

	flight *Flight // nil where there is a handler
	failed error   // why the handler takes the flight over

	link     *link
	unhook   func() bool // of the context
	heard    bool        // the cell has answered something
	spoiled  bool        // a deadline may come from it at any time
	stream   *stream
	x        Exchange
	in       []byte
	from, to int
	long
	pace
	slowness
	body pace
	out  []byte
	upload
}

const (
	answerBytes  = 32 << 10
	requestBytes = 20 << 10
	maxAnswer    = 64 << 10 // bytes of an answer's head
)

var relays = sync.Pool{New: func() any {
	t := &relay{in: make([]byte, answerBytes), out: make([]byte, 0, requestBytes)}
	t.poll, t.slow = t.pollOnce, t.tooSlow
	t.body.slow = t.tooSlow
	return t
}}

func (t *relay) free() {
	t.reset()
	t.body.reset()
	t.slowness = slowness{}
	t.c.relaying = nil
	t.narrow()
	if len(t.in) > answerBytes {
		t.in = make([]byte, answerBytes)
	}
	if cap(t.out) > 2*requestBytes {
		t.out = make([]byte, 0, requestBytes)
	}
	t.u, t.w, t.c, t.r, t.o, t.link, t.told, t.upload = nil, nil, nil, nil, nil, nil, false, upload{}
	t.flight, t.failed = nil, nil
	t.spoiled, t.stream, t.heard = false, nil, false
	t.x.Answer.Alias(nil)
	relays.Put(t)
}

// errStale says that a connection was closed while it was idle, and that the
// request may be sent again.
var errStale = errors.New("the connection was closed while it was idle")

// run sends the request on one connection, and relays its answer.
func (t *relay) run(fresh bool) error {
	l, err := t.u.get(t.r.Context(), fresh)
	if err != nil {
		return err
	}
	t.link, t.from, t.to = l, 0, 0
	reusable := false
	defer func() { t.part(l, reusable) }()
	t.watch()
	q := &t.c.req
	t.x.Begin(t.limits(), q.Method() == http.MethodHead, q.WebSocket(), q.Minor() == 1)
	if err := t.send(); err != nil {
		return t.stale(l, err)
	}
	if err := t.answer(); err != nil {
		return t.stale(l, err)
	}
	reusable = t.x.Reusable(t.to-t.from) && t.stream == nil
	return nil
}

// part gives the connection back, or closes it.
func (t *relay) part(l *link, reusable bool) {
	t.unwatch()
	t.stream.end(t.c)
	t.joinUpload()
	if reusable && !t.spoiled {
		t.u.put(l)
	} else {
		_ = l.Close()
	}
}

// watch makes the connection's reads and writes end when the request's context
// does, until unwatch.
func (t *relay) watch() {
	ctx, l := t.r.Context(), t.link
	deadline, _ := ctx.Deadline()
	l.until = time.Time{}
	_ = l.SetDeadline(deadline) // reading will report it
	if ctx == t.c.ctx {
		t.c.waitsFor(l)
		return
	}
	t.unhook = context.AfterFunc(ctx, func() { _ = l.SetDeadline(past) })
}

func (t *relay) unwatch() {
	if t.unhook == nil {
		t.c.waitsFor(nil)
		return
	}
	t.spoiled = !t.unhook()
	t.unhook = nil
}

func (t *relay) limits() Limits {
	l := t.u.Limits
	if l.Head == 0 {
		l.Head = maxAnswer
	}
	return l
}

// stale is errStale where err only says that the cell had closed a connection
// before it read of a request that may be sent again.
func (t *relay) stale(l *link, err error) error {
	if !l.used || t.heard || t.c.w.headed || timedOut(err) || t.c.ctx.Err() != nil || t.hasBody() {
		return err
	}
	if repeatable(t.c.req.Method()) {
		return errStale
	}
	return err
}

// repeatable reports whether a request with the method may be sent again where
// nobody knows what became of it.
func repeatable(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// head writes the request's head.
func (t *relay) head(n Length, sized bool) {
	q := &t.c.req
	out := AppendRequestLine(t.out[:0], q.Method(), q.Target(), q.Host())
	for i := range q.Len() {
		if !q.PassedOn(i) {
			continue
		}
		if name := q.Name(i); !t.replaced(name) && (t.o.Drop == nil || !t.o.Drop(name)) {
			out = AppendField(out, name, q.Value(i))
		}
	}
	for _, f := range t.o.Fields {
		if Sendable(f.Name, f.Value) {
			out = AppendField(out, f.Name, f.Value)
		}
	}
	if q.Trailers() {
		out = append(out, "TE: trailers\r\n"...)
	}
	if q.WebSocket() {
		out = append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	}
	if sized {
		out = AppendLength(out, n)
	}
	t.out = append(out, "\r\n"...)
}

func (t *relay) replaced(name string) bool {
	for i := range t.o.Fields {
		if strings.EqualFold(t.o.Fields[i].Name, name) {
			return true
		}
	}
	return false
}

// answer relays the answer to its end.
func (t *relay) answer() error {
	for {
		ev, data, n, f := t.x.Next(t.in[t.from:t.to])
		t.from += n
		if f != None {
			return f
		}
		switch ev {
		case More:
			done, err := t.more()
			if err != nil {
				return err
			}
			if done {
				return t.end()
			}
		case Interim:
			t.c.w.interim(&t.x.Answer, t.o.DropAnswer)
			t.x.Passed()
		case Began:
			if done, err := t.begin(); err != nil || done {
				return err
			}
		case Part:
			if _, err := t.w.Write(data); err != nil {
				return err
			}
		case Ended:
			return t.end()
		case Switched:
			return t.tunnel()
		}
	}
}

// more reads more of the answer, after what there is of it was sent on. It is
// done where the cell's closing is the answer's end.
func (t *relay) more() (done bool, err error) {
	if err := t.flush(); err != nil {
		return false, err
	}
	t.narrow()
	switch {
	case t.from == t.to:
		t.from, t.to = 0, 0
	case t.to == len(t.in) && t.from > 0:
		t.to = copy(t.in, t.in[t.from:t.to])
		t.from = 0
	case t.to == len(t.in):
		t.in = append(t.in, make([]byte, len(t.in))...)
	}
	n, err := t.read()
	t.to += n
	if n > 0 || err == nil {
		t.heard = true
		return false, nil
	}
	if t.stream.over() {
		return true, nil
	}
	if t.clientErr() != nil {
		return false, t.clientErr()
	}
	if !errors.Is(err, io.EOF) {
		return false, err
	}
	if t.x.Closed() != None {
		return false, io.ErrUnexpectedEOF
	}
	return true, nil
}

// flush sends what there is of the answer on.
func (t *relay) flush() error {
	if !t.c.w.headed {
		return nil
	}
	return t.c.w.flush()
}

// begin sends the answer's head on, unless it is for us.
func (t *relay) begin() (done bool, err error) {
	p := &t.x.Answer
	if t.flight != nil && (p.Status() == http.StatusMisdirectedRequest || p.eventStream()) {
		return false, cmp.Or(t.c.w.err, errUnusual)
	}
	t.tell()
	if p.Status() == http.StatusMisdirectedRequest && t.o.Misdirected != nil {
		return true, t.o.Misdirected(t.response())
	}
	if p.eventStream() && t.o.Stream != nil {
		if err := t.startStream(); err != nil {
			return false, err
		}
	}
	if !t.readWhole() {
		t.c.mustClose = true // what is left of the upload is of no use to anybody
	}
	t.c.w.relayed, t.c.w.drop = p, t.o.DropAnswer
	t.w.WriteHeader(p.Status())
	t.c.w.relayed = nil
	return false, t.c.w.err
}

func (t *relay) tell() {
	t.told = true
	if t.o.Answered != nil {
		t.o.Answered(time.Since(t.began), true)
	}
}

// end ends the answer, and the upload with it.
func (t *relay) end() error {
	if t.finishUpload() {
		t.x.Sent()
	}
	return t.c.w.end(t.trailer())
}

// trailer is the answer's trailer fields that the client may see.
func (t *relay) trailer() []byte {
	all := t.x.Trailer()
	if t.o.DropAnswer == nil || len(all) == 0 {
		return all
	}
	kept := all[:0]
	for line := range bytes.SplitAfterSeq(all, []byte("\r\n")) {
		name, _, ok := bytes.Cut(line, []byte(":"))
		if ok && !t.o.DropAnswer(string(name)) {
			kept = append(kept, line...)
		}
	}
	return kept
}

// response is the answer for who reads it here. It is short: nobody waits for it.
func (t *relay) response() *http.Response {
	p := &t.x.Answer
	h := make(http.Header, p.Len())
	for i := range p.Len() {
		h.Add(strings.Clone(p.Name(i)), strings.Clone(p.Value(i)))
	}
	return &http.Response{StatusCode: p.Status(), Header: h, Body: io.NopCloser(&answerBody{t: t})}
}

// An answerBody is the answer's body for who reads it here.
type answerBody struct {
	t    *relay
	rest []byte // of the part that was received last
	err  error
}

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	for b.err == nil && len(b.rest) == 0 {
		b.rest, b.err = b.next()
	}
	if len(b.rest) == 0 {
		return 0, b.err
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *answerBody) next() ([]byte, error) {
	t := b.t
	ev, data, n, f := t.x.Next(t.in[t.from:t.to])
	t.from += n
	switch {
	case f != None:
		return nil, f
	case ev == Ended:
		if t.finishUpload() {
			t.x.Sent()
		}
		return nil, io.EOF
	case ev == Part:
		return data, nil
	}
	done, err := t.more()
	if done {
		err = io.EOF
	}
	return nil, err
}

// An upload is the request's body on its way.
type upload struct {
	framer Framer
	sent   bool          // the request is whole, without a goroutine
	over   chan struct{} // closed when the goroutine has ended; nil: there is none
	whole  atomic.Bool   // all of the body was read, and none of it is left to do but a write
	ended  bool          // the goroutine has been waited for
	err    error         // of the cell's connection, after over
	client atomic.Pointer[error]
}
