package h1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// A foreignUpload is a request's body on its way. What it has is its own: it may
// outlive the Forward that started it, until the client's side fails.
type foreignUpload struct {
	pace
	body   io.Reader
	link   net.Conn
	framer Framer
	over   chan struct{} // closed when it has ended
	last   atomic.Bool   // nothing is left to do but one write
	sent   bool          // all of it; after over
	client atomic.Pointer[error]
}

func (u *foreignUpload) run() {
	defer close(u.over)
	buf, out := make([]byte, inline), make([]byte, 0, inline+64)
	for {
		u.wait()
		n, err := u.body.Read(buf)
		if !u.waited() {
			err = ErrSlow
		}
		ended := errors.Is(err, io.EOF)
		if err != nil && !ended {
			u.fail(err)
			return
		}
		out = out[:0]
		if n > 0 {
			var ok bool
			if out, ok = u.framer.Before(out, n); !ok {
				u.fail(http.ErrContentLength)
				return
			}
			out = u.framer.After(append(out, buf[:n]...))
		}
		last := ended || u.framer.Whole()
		if last {
			var ok bool
			if out, ok = u.framer.End(out, nil); !ok {
				u.fail(io.ErrUnexpectedEOF)
				return
			}
		}
		u.last.Store(last)
		if _, err := u.link.Write(out); err != nil {
			return // the cell may have answered
		}
		if last {
			u.sent = true
			return
		}
	}
}

// fail ends the exchange because of the client.
func (u *foreignUpload) fail(err error) {
	u.client.CompareAndSwap(nil, &err) // as of a relay
	_ = u.link.SetDeadline(past)       // who reads the answer stops
}

// whole reports whether all of the body was sent. It waits for a write that is
// under way, and for nothing else.
func (u *foreignUpload) whole() bool {
	if u == nil {
		return true
	}
	if !u.last.Load() {
		return false
	}
	<-u.over
	return u.sent
}

// clientErr is why the client's body could not be read.
func (u *foreignUpload) clientErr() error {
	if u == nil || u.client.Load() == nil {
		return nil
	}
	return *u.client.Load()
}

// cutUpload makes an upload end that nobody wants any more: the connection to the
// cell is closed, and a read of the client's body fails at once where the server
// can do that, or with the end of the request.
func (t *foreign) cutUpload() {
	if t.upload == nil || t.upload.whole() {
		return
	}
	_ = t.rc.SetReadDeadline(past)
}
