package h1

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// inline is how much of a body is sent before the answer is looked at. It fits
// into the cell's socket: sending it waits for nobody.
const inline = 16 << 10

// send sends the request, or as much of it as can be had without waiting. A
// body that takes longer goes on in a goroutine of its own, while the answer
// may already come.
func (t *relay) send() error {
	n, sized := t.length()
	t.head(n, sized)
	if !t.hasBody() || n == 0 {
		t.sent = true
		return t.write()
	}
	t.framer.Begin(n)
	for total := 0; ; {
		t.body.wait()
		size, err := t.r.Body.Read(t.in[:inline-total])
		if !t.body.waited() {
			return ErrSlow
		}
		total += size
		if ferr := t.frame(t.in[:size]); ferr != nil {
			return ferr
		}
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case err != nil || t.framer.Whole():
			if !t.endFrame() {
				return io.ErrUnexpectedEOF
			}
			t.sent = true
			return t.write()
		case !t.c.bodyDone.Load() || total == inline:
			if err := t.write(); err != nil {
				return err
			}
			t.over = make(chan struct{})
			go t.rest() // joinUpload waits for it
			return nil
		}
	}
}

// length is the body's length towards the cell, and whether it is said.
func (t *relay) length() (n Length, sized bool) {
	if !t.hasBody() {
		return 0, sizedWithout(&t.c.req)
	}
	return t.c.req.Length(), true
}

// sizedWithout reports whether a request without a body says so.
func sizedWithout(q *Request) bool {
	switch q.Method() {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return true
	}
	return q.HasLength() || q.Length() == Chunked
}

func (t *relay) hasBody() bool {
	if t.r == nil {
		return t.c.req.Length() != 0
	}
	return t.r.Body != nil && t.r.Body != http.NoBody
}

func (t *relay) frame(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	out, ok := t.framer.Before(t.out, len(p))
	if t.out = out; !ok {
		return http.ErrContentLength
	}
	t.out = t.framer.After(append(t.out, p...))
	return nil
}

func (t *relay) endFrame() (ok bool) {
	t.out, ok = t.framer.End(t.out, nil)
	return ok
}

func (t *relay) write() error {
	_, err := t.link.Write(t.out)
	t.out = t.out[:0]
	return err
}

// rest sends the rest of the body. A client that fails ends the exchange; a cell
// that reads no more may have answered.
func (t *relay) rest() {
	defer close(t.over)
	p := pieces{c: t.c, from: t.r.Body, sized: t.framer.length >= 0}
	defer p.done()
	push := pusher{raw: t.link.raw}
	if t.link.tls != nil {
		push.raw = nil
	}
	for {
		t.body.wait()
		piece, err := p.next()
		if !t.body.waited() {
			err = ErrSlow
		}
		ended := errors.Is(err, io.EOF)
		if err != nil && !ended {
			t.fail(err)
			return
		}
		out, ferr := t.framed(piece)
		if ferr != nil {
			t.fail(ferr)
			return
		}
		last := ended || t.framer.Whole()
		if last {
			var whole bool
			if out, whole = t.framer.End(out, nil); !whole {
				t.fail(io.ErrUnexpectedEOF)
				return
			}
			t.whole.Store(true)
		}
		if t.err = push.write(t.link.Conn, out); t.err != nil || last {
			return
		}
	}
}

// framed is a piece of the body with its framing: as it is where it needs none.
func (t *relay) framed(piece []byte) ([]byte, error) {
	if t.framer.length >= 0 {
		_, ok := t.framer.Before(nil, len(piece))
		if !ok {
			return nil, http.ErrContentLength
		}
		return piece, nil
	}
	t.out = t.out[:0]
	err := t.frame(piece)
	return t.out, err
}

// fail ends the exchange because of the client.
func (t *relay) fail(err error) {
	t.client.CompareAndSwap(nil, &err) // a cut makes the read fail that waits
	_ = t.link.SetDeadline(past)       // who reads the answer stops
}

// clientErr is why the client's body could not be read.
func (t *relay) clientErr() error {
	if p := t.client.Load(); p != nil {
		return *p
	}
	return nil
}

// readWhole reports whether nothing is left to be read of the client's body.
func (t *relay) readWhole() bool { return t.sent || t.whole.Load() }

// finishUpload ends the upload once the answer is there: what has not been sent
// of it will not be. It reports whether all was sent.
func (t *relay) finishUpload() bool {
	switch {
	case t.over == nil:
		return t.sent
	case !t.whole.Load():
		t.cutUpload()
	default: // a cell that has answered may not read on
		_ = t.link.SetWriteDeadline(time.Now().Add(lingerTime)) // the write will report it; who uses the connection next sets its own
	}
	<-t.over
	t.ended = true
	return t.whole.Load() && t.err == nil
}

// joinUpload waits for the goroutine, however the exchange ended.
func (t *relay) joinUpload() {
	if t.over == nil || t.ended {
		return
	}
	t.cutUpload()
	<-t.over
	t.ended = true
}

// cutUpload makes the goroutine end, wherever it waits.
func (t *relay) cutUpload() {
	_ = t.link.Close()
	if !t.c.bodyDone.Load() {
		t.c.abortBody()
	}
}
