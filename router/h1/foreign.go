package h1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A foreign is one Forward of a request that another server than ours serves.
type foreign struct {
	u     *Upstream
	w     http.ResponseWriter
	rc    *http.ResponseController
	r     *http.Request
	o     *Outgoing
	began time.Time

	link     *link
	x        Exchange
	in       []byte
	from, to int
	heard    bool // the cell has answered something
	headed   bool // the answer's head was given to w
	told     bool // Answered was
	stream   *stream
	pace
	*slowness
	upload *foreignUpload // nil: the request has no body
}

// forwardForeign is Forward for any server's ResponseWriter.
func (u *Upstream) forwardForeign(w http.ResponseWriter, r *http.Request, o *Outgoing) error {
	t := foreigns.Get().(*foreign)
	defer t.free()
	t.u, t.w, t.rc, t.r, t.o, t.began, t.slowness = u, w, http.NewResponseController(w), r, o, time.Now(), &slowness{}
	err := t.run(false)
	if errors.Is(err, errStale) {
		if err = io.ErrUnexpectedEOF; o.Again == nil || o.Again() {
			err = t.run(true)
		}
	}
	if err == nil {
		return nil
	}
	if t.headed {
		panic(http.ErrAbortHandler)
	}
	if o.Answered != nil && !t.told && !errors.Is(err, ErrNoFiles) {
		o.Answered(time.Since(t.began), false)
	}
	if cause := r.Context().Err(); errors.Is(cause, context.Canceled) && context.Cause(r.Context()) == cause {
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	return err
}

var foreigns = sync.Pool{New: func() any {
	t := &foreign{in: make([]byte, answerBytes)}
	t.slow = t.tooSlow
	return t
}}

func (t *foreign) free() {
	t.slowness.end()
	t.reset()
	in, p := t.in, t.pace
	if len(in) > answerBytes {
		in = make([]byte, answerBytes)
	}
	*t = foreign{} // in place: a whole one beside it would be kilobytes of stack
	t.in, t.pace = in, p
	foreigns.Put(t)
}

// run sends the request on one connection, and relays its answer.
func (t *foreign) run(fresh bool) error {
	ctx := t.r.Context()
	l, err := t.u.get(ctx, fresh)
	if err != nil {
		return err
	}
	t.link, t.from, t.to = l, 0, 0
	l.until = time.Time{}
	deadline, _ := ctx.Deadline()
	_ = l.SetDeadline(deadline) // reading will report it
	unhook := context.AfterFunc(ctx, func() { _ = l.SetDeadline(past) })
	reusable := false
	defer func() {
		clean := unhook()
		if t.stream != nil {
			t.stream.done()
		}
		if reusable && clean && t.stream == nil {
			t.u.put(l)
			return
		}
		_ = l.Close()
		t.cutUpload()
	}()
	t.x.Begin(t.limits(), t.r.Method == http.MethodHead, false, true)
	if err := t.send(); err != nil {
		return t.stale(err)
	}
	if err := t.answer(); err != nil {
		return t.stale(err)
	}
	reusable = t.x.Reusable(t.to - t.from)
	return nil
}

func (t *foreign) limits() Limits {
	l := t.u.Limits
	if l.Head == 0 {
		l.Head = maxAnswer
	}
	return l
}

// stale is as of a relay.
func (t *foreign) stale(err error) error {
	if !t.link.used || t.heard || t.headed || t.upload != nil || timedOut(err) || t.r.Context().Err() != nil {
		return err
	}
	switch t.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return errStale
	}
	return err
}

// send sends the head, and starts to send the body.
func (t *foreign) send() error {
	if f := checkParts(t.r); f != None {
		return fmt.Errorf("head of the request: %w", f) // cannot be behind Strict
	}
	out := appendForeign(make([]byte, 0, 2048), t.r, t.o)
	for _, f := range t.o.Fields {
		if Sendable(f.Name, f.Value) {
			out = AppendField(out, f.Name, f.Value)
		}
	}
	for _, v := range t.r.Header["Te"] {
		if strings.EqualFold(strings.TrimSpace(v), "trailers") {
			out = append(out, "TE: trailers\r\n"...)
			break
		}
	}
	n, sized := t.length()
	if sized {
		out = AppendLength(out, n)
	}
	out = append(out, "\r\n"...)
	if _, err := t.link.Write(out); err != nil {
		return err
	}
	if t.r.Body == nil || t.r.Body == http.NoBody || n == 0 {
		t.x.Sent()
		return nil
	}
	t.upload = &foreignUpload{body: t.r.Body, link: t.link, over: make(chan struct{})}
	ask, o := t.slowness.ask, t.o
	t.upload.slow = func() bool { return ask(o.Slow, t.cut) } // which t outlives, or nobody is asked
	t.upload.framer.Begin(n)
	go t.upload.run() // ends with the body, or when cutUpload has made both sides fail
	return nil
}

// length is the body's length towards the cell, and whether it is said.
func (t *foreign) length() (n Length, sized bool) {
	if t.r.Body == nil || t.r.Body == http.NoBody {
		switch t.r.Method {
		case http.MethodPost, http.MethodPut, http.MethodPatch:
			return 0, true
		}
		return 0, false
	}
	if t.r.ContentLength >= 0 {
		return Length(t.r.ContentLength), true
	}
	return Chunked, true
}

// answer relays the answer to its end.
func (t *foreign) answer() error {
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
				t.end()
				return nil
			}
		case Interim:
			if err := t.interim(); err != nil {
				return err
			}
			t.x.Passed()
		case Began:
			if done, err := t.begin(); err != nil || done {
				return err
			}
		case Part:
			if err := t.write(data); err != nil {
				return err
			}
		case Ended:
			t.end()
			return nil
		case Switched:
			return UnaskedSwitch // cannot be: nobody asked
		}
	}
}

// more reads more of the answer, after what there is of it was sent on. It is
// done where the cell's closing is the answer's end.
func (t *foreign) more() (done bool, err error) {
	if t.headed {
		if err := t.flush(); err != nil {
			return false, err
		}
	}
	switch {
	case t.from == t.to:
		t.from, t.to = 0, 0
	case t.to == len(t.in) && t.from > 0:
		t.to = copy(t.in, t.in[t.from:t.to])
		t.from = 0
	case t.to == len(t.in):
		t.in = append(t.in, make([]byte, len(t.in))...)
	}
	n, err := t.link.Read(t.in[t.to:])
	t.to += n
	switch {
	case n > 0 || err == nil:
		t.heard = true
		return false, nil
	case t.stream.over():
		return true, nil
	case t.upload.clientErr() != nil:
		return false, t.upload.clientErr()
	case !errors.Is(err, io.EOF):
		return false, err
	case t.x.Closed() != None:
		return false, io.ErrUnexpectedEOF
	}
	return true, nil
}

// interim sends a 1xx answer on, with its own fields only.
func (t *foreign) interim() error {
	status := t.x.Answer.Status()
	if status == http.StatusContinue || t.headed {
		return nil
	}
	h := t.w.Header()
	ours := h.Clone()
	clear(h)
	t.copyFields(h)
	t.beforeWrite()
	t.w.WriteHeader(status)
	clear(h)
	for name, values := range ours {
		h[name] = values
	}
	return t.afterWrite(nil)
}

func (t *foreign) copyFields(h http.Header) {
	p := &t.x.Answer
	for i := range p.Len() {
		name := p.Name(i)
		if p.PassedOn(i) && (t.o.DropAnswer == nil || !t.o.DropAnswer(name)) {
			h.Add(strings.Clone(name), strings.Clone(p.Value(i)))
		}
	}
}

// begin sends the answer's head on, unless it is for us.
func (t *foreign) begin() (done bool, err error) {
	t.told = true
	if t.o.Answered != nil {
		t.o.Answered(time.Since(t.began), true)
	}
	p := &t.x.Answer
	if p.Status() == http.StatusMisdirectedRequest && t.o.Misdirected != nil {
		resp, err := t.short()
		if err != nil {
			return true, err
		}
		return true, t.o.Misdirected(resp)
	}
	if p.eventStream() && t.o.Stream != nil {
		if err := t.startStream(); err != nil {
			return false, err
		}
	}
	h := t.w.Header()
	t.copyFields(h)
	if _, typed := h["Content-Type"]; !typed {
		h["Content-Type"] = nil // or net/http would guess one
	}
	if n, ok := p.Announced(); ok && p.Status() != http.StatusNoContent {
		h.Set("Content-Length", fmt.Sprint(n))
	}
	t.headed = true
	t.w.WriteHeader(p.Status())
	return false, nil
}

// short is the answer with its body, which must be a short one.
func (t *foreign) short() (*http.Response, error) {
	h := make(http.Header, t.x.Answer.Len())
	for i := range t.x.Answer.Len() {
		h.Add(strings.Clone(t.x.Answer.Name(i)), strings.Clone(t.x.Answer.Value(i)))
	}
	status := t.x.Answer.Status()
	var body []byte
	for len(body) < maxAnswer {
		ev, data, n, f := t.x.Next(t.in[t.from:t.to])
		t.from += n
		body = append(body, data...)
		if f != None {
			return nil, f
		}
		if ev == Ended {
			break
		}
		if ev == Part {
			continue
		}
		if done, err := t.more(); err != nil {
			return nil, err
		} else if done {
			break
		}
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewReader(body))}, nil
}

// startStream lifts the deadlines of both sides.
func (t *foreign) startStream() error {
	s, l := &stream{}, t.link
	done, err := t.o.Stream(func(Ending) {
		s.told.Store(true)
		_ = l.SetDeadline(past) // a read that waits returns; the connection is not used again
	})
	if err != nil {
		return err
	}
	s.done, t.stream = done, s
	if !s.told.Load() {
		_ = l.SetDeadline(time.Time{}) // reading will report it
	}
	if s.told.Load() || t.r.Context().Err() != nil { // told, or left, before the deadline was lifted
		_ = l.SetDeadline(past)
	}
	_ = t.rc.SetReadDeadline(time.Time{})  // a server without deadlines has none to lift
	_ = t.rc.SetWriteDeadline(time.Time{}) // as above
	return nil
}

func (t *foreign) write(p []byte) error {
	t.beforeWrite()
	_, err := t.w.Write(p)
	return t.afterWrite(err)
}

func (t *foreign) flush() error {
	t.beforeWrite()
	err := t.rc.Flush()
	if errors.Is(err, http.ErrNotSupported) {
		err = nil
	}
	return t.afterWrite(err)
}

// end gives the trailer fields to w, and notes whether the request was whole. The last of the
// answer is written when the handler has returned.
func (t *foreign) end() {
	if t.stream != nil {
		_ = t.rc.SetWriteDeadline(time.Now().Add(t.u.patience())) // as in beforeWrite
	}
	if t.upload.whole() {
		t.x.Sent()
	}
	for line := range bytes.SplitSeq(t.x.Trailer(), []byte("\r\n")) {
		name, value, ok := strings.Cut(string(line), ":")
		if ok && (t.o.DropAnswer == nil || !t.o.DropAnswer(name)) {
			t.w.Header().Add(http.TrailerPrefix+name, strings.TrimSpace(value))
		}
	}
}
