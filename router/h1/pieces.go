package h1

import (
	"cmp"
	"io"
	"net/http"
	"syscall"
	"time"
)

// pieces are a request's body as it comes, for who sends it on: of a long one as
// much at once as is there, in memory that is lent while bytes are in it.
type pieces struct {
	c     *conn
	from  io.Reader // of which c's reader is the end
	sized bool
	wide  *wide
	buf   []byte // where nothing is lent
}

// next is valid until the next call.
func (p *pieces) next() ([]byte, error) {
	p.done()
	b := p.c.reader
	for b != nil && p.sized && p.c.raw != nil {
		if p.wide = wides.lend(); p.wide == nil {
			break
		}
		b.now = true
		n, err := p.from.Read(p.wide[:])
		b.now = false
		if n > 0 || err != nil {
			return p.wide[:n], err
		}
		p.done()
		b.await()
	}
	if p.buf == nil {
		p.buf = make([]byte, inline)
	}
	n, err := p.from.Read(p.buf)
	return p.buf[:n], err
}

// done gives back what was lent.
func (p *pieces) done() {
	wides.back(p.wide)
	p.wide = nil
}

// direct is from which size on a read of a body goes past the connection's buffer.
const direct = 4 << 10

// straight reports whether a read of the body may go into p, past the connection's
// buffer.
func (b *bodyReader) straight(p []byte) bool {
	c := b.c
	return c.raw != nil && c.body.length >= 0 && !c.body.Done() && c.from == c.to && !b.waits && len(p) >= direct
}

// into reads some of the body into p.
func (b *bodyReader) into(p []byte) (n int, err error) {
	c := b.c
	if !c.readBy(time.Now().Add(c.srv.Upload)) {
		return 0, http.ErrBodyReadAfterClose
	}
	p = p[:min(int64(len(p)), c.body.Left())]
	var again bool
	perr := c.raw.Read(func(fd uintptr) bool {
		n, err = readNow(fd, p)
		again = err == errAgain //nolint:errorlint // it is what readNow returns
		return !again || b.now
	})
	switch {
	case perr != nil:
		return 0, perr
	case again:
		return 0, nil
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.ErrUnexpectedEOF
	}
	_, _, _ = c.body.Next(p[:n]) // of a length that is known: it takes all
	c.bodyDone.Store(c.body.Done())
	return n, nil
}

// await waits until there is something to read. The next read says what is wrong.
func (b *bodyReader) await() {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.c
	switch {
	case b.err != nil || len(b.rest) > 0 || c.body.Done() || c.from < c.to:
	case !c.readBy(time.Now().Add(c.srv.Upload)):
		b.err = http.ErrBodyReadAfterClose
	default:
		var broken error // told once: the next read would take it for the end
		b.err = cmp.Or(c.raw.Read(func(fd uintptr) (yes bool) {
			yes, broken = peek(fd)
			return yes
		}), broken)
	}
}

// somethingThere reports whether a read would not wait: there are bytes, or the end.
func somethingThere(fd uintptr) bool {
	yes, _ := peek(fd)
	return yes
}

// peek is somethingThere, with why the connection is broken.
func peek(fd uintptr) (yes bool, broken error) {
	var b [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch err { //nolint:errorlint // an Errno as the kernel gave it
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false, nil
		default:
			return true, err
		}
	}
}
