package h1

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A writer is the http.ResponseWriter of one connection.
type writer struct {
	c      *conn
	header http.Header
	status int
	headed bool // the head is written
	silent bool // the answer has no body
	framer Framer
	err    error // of the connection

	bytes int64 // of body, so far

	relayed *Response // the cell's answer, whose fields come first
	reply   []Field   // of a flight, which has no header
	drop    func(name string) bool
}

func (w *writer) begin() {
	clear(w.header)
	w.status, w.headed, w.silent, w.err, w.relayed, w.drop, w.reply, w.bytes = 0, false, false, nil, nil, nil, nil, 0
	w.c.small = w.c.small[:0] // of an answer before
}

// Header implements http.ResponseWriter.
func (w *writer) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(status int) {
	if w.status != 0 || status < 200 && status != http.StatusSwitchingProtocols || status > 999 {
		return
	}
	w.status = status
	if w.relayed != nil {
		w.head(w.relayed.Length())
		return
	}
	if n, ok := w.declared(); ok {
		w.head(n)
	}
}

// declared is the Content-Length that a handler set.
func (w *writer) declared() (Length, bool) {
	n, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64)
	return Length(n), err == nil && n >= 0
}

// Write implements http.ResponseWriter.
func (w *writer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	c := w.c
	c.answers()
	if !w.headed {
		if len(c.small)+len(p) <= cap(c.small) {
			c.small = append(c.small, p...)
			return len(p), nil
		}
		w.head(Chunked)
		w.part(c.small)
	}
	w.part(p)
	if w.err != nil {
		return 0, w.err
	}
	w.bytes += int64(len(p))
	return len(p), nil
}

// FlushError is http.ResponseController's Flush.
func (w *writer) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.headed {
		w.head(Chunked)
		w.part(w.c.small)
	}
	return w.flush()
}

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() } // the next write reports it

// SetReadDeadline brings the end of what may be read of the request nearer.
func (w *writer) SetReadDeadline(t time.Time) error {
	if t.IsZero() {
		return http.ErrNotSupported
	}
	if t.Before(w.c.until) {
		w.c.until = t
	}
	return nil
}

func (w *writer) flush() error {
	if err := w.c.flush(); err != nil && w.err == nil {
		w.err = err
	}
	return w.err
}

// framing is room for what comes after a part of a body and before the next one.
const framing = 32

// part writes some of the body, with its framing.
func (w *writer) part(p []byte) {
	if w.silent || len(p) == 0 || w.err != nil {
		return
	}
	c := w.c
	out, ok := w.framer.Before(c.out, len(p))
	if c.out = out; !ok {
		w.err = http.ErrContentLength
		return
	}
	if len(c.out)+len(p)+framing > cap(c.out) && w.flush() != nil {
		return
	}
	if len(c.out)+len(p)+framing <= cap(c.out) { // a copy costs less than a call, which wakes who reads
		c.out = append(c.out, p...)
	} else {
		c.relaying.beforeWrite()
		w.err = c.relaying.afterWrite(c.push.write(c.nc, p))
	}
	c.out = w.framer.After(c.out)
}

// finish ends the answer and sends it.
func (w *writer) finish() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.headed {
		w.head(Length(len(w.c.small)))
		w.part(w.c.small)
	}
	return w.end(nil)
}

// refuse answers a flight that is refused.
func (w *writer) refuse(f *Flight) error {
	w.status = f.Status
	w.head(Length(len(f.Text)))
	w.part(f.Text)
	w.bytes = int64(len(f.Text))
	return w.end(nil)
}

// end ends the body, once; trailer is field lines.
func (w *writer) end(trailer []byte) error {
	if w.err == nil && !w.silent {
		w.silent = true
		var ok bool
		if w.c.out, ok = w.framer.End(w.c.out, trailer); !ok {
			w.err = http.ErrContentLength
		}
	}
	return w.flush()
}

// head writes the head of an answer whose body has length n.
func (w *writer) head(n Length) {
	c := w.c
	c.answers()
	w.headed = true
	toHead := c.req.Method() == http.MethodHead
	w.silent = toHead || w.status < 200 || w.status == http.StatusNoContent || w.status == http.StatusNotModified
	c.out = AppendStatusLine(c.out, w.status)
	if w.relayed != nil {
		c.out = w.relayed.AppendPassedOn(c.out, w.drop)
	}
	for _, f := range w.reply {
		c.out = AppendField(c.out, f.Name, f.Value)
	}
	c.out = w.appendHeader(c.out)
	if w.status == http.StatusSwitchingProtocols {
		c.out = append(c.out, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"...)
		return
	}
	if (w.relayed == nil || !w.relayed.Dated()) && w.header["Date"] == nil {
		c.out = appendDate(c.out)
	}
	c.out = w.appendFraming(c.out, n)
	if c.mustClose = c.mustClose || c.srv.retiring.Load() || c.srv.draining.Load(); c.mustClose {
		c.out = append(c.out, "Connection: close\r\n"...)
	}
	c.out = append(c.out, "\r\n"...)
}

// appendHeader appends the fields that the handler set.
func (w *writer) appendHeader(dst []byte) []byte {
	for name, values := range w.header {
		k, _ := classify(name)
		if k == connection {
			for _, v := range values {
				w.c.mustClose = w.c.mustClose || strings.EqualFold(v, "close")
			}
		}
		if k.hop() {
			continue
		}
		for _, v := range values {
			if Sendable(name, v) {
				dst = AppendField(dst, name, v)
			}
		}
	}
	return dst
}

// appendFraming appends how long the body is, and makes the framer ready for it.
func (w *writer) appendFraming(dst []byte, n Length) []byte {
	if w.silent {
		return w.appendAnnounced(dst, n)
	}
	if n == UntilClose || n == Chunked {
		n = Chunked
		if w.c.req.Minor() == 0 {
			n = UntilClose
			w.c.mustClose = true
		}
	}
	w.framer.Begin(n)
	if n == Chunked && w.relayed != nil {
		dst = w.appendTrailerNames(dst)
	}
	return AppendLength(dst, n)
}

// appendAnnounced appends the length of a body that is not sent.
func (w *writer) appendAnnounced(dst []byte, n Length) []byte {
	if w.status < 200 || w.status == http.StatusNoContent {
		return dst
	}
	if w.relayed != nil {
		announced, ok := w.relayed.Announced()
		if !ok {
			return dst
		}
		n = Length(announced)
	}
	if n < 0 || w.status == http.StatusNotModified && w.relayed == nil {
		return dst
	}
	return AppendLength(dst, n)
}

// appendTrailerNames announces the trailer fields that the cell announces.
func (w *writer) appendTrailerNames(dst []byte) []byte {
	list, ok := w.relayed.lookup(trailer)
	for ok && list != "" {
		var name string
		name, list, _ = strings.Cut(list, ",")
		name = strings.Trim(name, " \t")
		if k, twin := classify(name); all(name, isToken) && !twin && !k.hop() && !k.vital() && (w.drop == nil || !w.drop(name)) {
			dst = AppendField(dst, "Trailer", name)
		}
	}
	return dst
}

// interim sends a 1xx answer on, to a client that knows of them.
func (w *writer) interim(p *Response, drop func(string) bool) {
	c := w.c
	if p.Status() == http.StatusContinue || c.req.Minor() == 0 || w.headed {
		return // 100 is ours to send
	}
	c.answers()
	c.out = AppendStatusLine(c.out, p.Status())
	c.out = append(p.AppendPassedOn(c.out, drop), "\r\n"...)
	_ = w.flush() // the answer itself reports it
}

// A dateLine is a Date field of one second.
type dateLine struct {
	second int64
	line   string
}

var dateNow atomic.Pointer[dateLine]

func appendDate(dst []byte) []byte {
	now := time.Now()
	d := dateNow.Load()
	if d == nil || d.second != now.Unix() {
		d = &dateLine{now.Unix(), "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
		dateNow.Store(d)
	}
	return append(dst, d.line...)
}
