package h1

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// Of a long body much is moved at once: each read and each write has a price of
// its own, and wakes who is at the other end. The memory for it is lent for as long
// as bytes are in it, to so many at a time: who waits for bytes has none, and where
// none is left a body is moved in the buffers that every exchange has.
const (
	wideBytes = 512 << 10
	wideMost  = 8
)

type wide [wideBytes]byte

var wides lender

type lender struct {
	pool sync.Pool
	lent atomic.Int32
}

// lend is nil where too much is lent already.
func (l *lender) lend() *wide {
	if l.lent.Add(1) > wideMost {
		l.lent.Add(-1)
		return nil
	}
	if b, ok := l.pool.Get().(*wide); ok {
		return b
	}
	return new(wide)
}

// back gives back what was lent, if it was.
func (l *lender) back(b *wide) {
	if b != nil {
		l.pool.Put(b)
		l.lent.Add(-1)
	}
}

// long is what a relay has of a long answer.
type long struct {
	wide   *wide  // nil: nothing was lent
	own    []byte // what in is else
	poll   func(fd uintptr) bool
	got    int // by poll
	gotErr error
}

// errAgain says that there is nothing to read now, or no room to write.
var errAgain = errors.New("nothing to read now")

// read reads more of the answer.
func (t *relay) read() (int, error) {
	l, c := t.link, t.c
	switch {
	case t.to > 0 || t.x.Left() <= int64(len(t.in)) || l.tls != nil || c.push.stalled:
	case l.raw == nil && c.raw == nil: // a loop's, which do not wait
		if t.wide = wides.lend(); t.wide == nil {
			break
		}
		n, err := l.Read(t.wide[:])
		t.took(n)
		return n, err
	case l.raw != nil && c.raw != nil:
		t.got, t.gotErr = 0, nil
		if err := l.raw.Read(t.poll); err != nil {
			return 0, err
		}
		return t.got, t.gotErr
	}
	return l.Read(t.in[t.to:])
}

// pollOnce reads much of the answer if there is something to read.
func (t *relay) pollOnce(fd uintptr) bool {
	buf := t.in
	if t.wide = wides.lend(); t.wide != nil {
		buf = t.wide[:]
	}
	n, err := readNow(fd, buf)
	t.took(n)
	switch {
	case err == errAgain: //nolint:errorlint // it is what readNow returns
		return false
	case err == nil && n == 0:
		err = io.EOF
	}
	t.got, t.gotErr = n, err
	return true
}

// took goes on with n bytes that were read into what was lent, or without.
func (t *relay) took(n int) {
	switch {
	case t.wide == nil:
	case n > 0:
		t.own, t.in = t.in, t.wide[:]
	default:
		wides.back(t.wide)
		t.wide = nil
	}
}

// narrow gives back what was lent for bytes that have been sent on. What is left
// is of a trailer: it is short.
func (t *relay) narrow() {
	if t.wide == nil {
		return
	}
	if t.to-t.from > len(t.own) {
		t.own = make([]byte, t.to-t.from)
	}
	n := copy(t.own, t.in[t.from:t.to])
	t.in, t.own, t.from, t.to = t.own, nil, 0, n
	wides.back(t.wide)
	t.wide = nil
}

// A pusher writes all of what it is given to a socket, and notes whether that had
// to wait.
type pusher struct {
	raw     syscall.RawConn // nil: it is no socket
	once    func(fd uintptr) bool
	rest    []byte
	err     error
	stalled bool
}

// write writes to nc, whose socket is p's.
func (p *pusher) write(nc net.Conn, b []byte) error {
	if p.raw == nil {
		_, err := nc.Write(b)
		return err
	}
	if p.once == nil {
		p.once = p.pushOnce
	}
	p.rest, p.err, p.stalled = b, nil, false
	err := p.raw.Write(p.once)
	p.rest = nil
	if err == nil {
		err = p.err
	}
	return err
}

func (p *pusher) pushOnce(fd uintptr) bool {
	for len(p.rest) > 0 {
		n, err := writeNow(fd, p.rest)
		p.rest = p.rest[n:]
		if err == errAgain { //nolint:errorlint // it is what writeNow returns
			p.stalled = true
			return false
		}
		if p.err = err; err != nil {
			return true
		}
	}
	return true
}
