package h1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// A descriptor is a connection in a loop. A read of it does not wait, and a write takes
// everything: what the kernel does not take is pending, and then the connection is
// grounded.
type descriptor struct {
	lp      *loop
	fd      int
	c       *conn // a client's connection, or whose flight waits for the link; nil: the link is idle
	link    *link // nil: a client's connection
	pending []byte
	ended   bool // the peer sends no more, once what came was read
	full    bool // the last read may have left something
	birth   int32
	spent   int // bytes of an answer read in this turn
}

// turnBytes is how much of an answer is relayed before others have their turn.
const turnBytes = 256 << 10

// room is how much of n bytes of an answer may be read now: no more while the client has
// not taken what was read before.
func (s *descriptor) room(n int) int {
	switch {
	case s.spent >= turnBytes || len(s.c.air.pending) > 0:
		return 0
	case s.c.w.bytes < firstBytes:
		return min(n, firstBytes)
	}
	return n
}

// Read implements net.Conn.
func (s *descriptor) Read(p []byte) (int, error) {
	if s.link != nil {
		if p = p[:s.room(len(p))]; len(p) == 0 {
			return 0, errAgain
		}
	}
	n, err := readNow(uintptr(s.fd), p)
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	s.full = n == len(p)
	if s.link != nil {
		s.spent += n
	}
	return n, nil
}

// quiet reports whether an idle connection is open and has nothing to read.
func (s *descriptor) quiet() bool { return !somethingThere(uintptr(s.fd)) }

// Write implements net.Conn.
func (s *descriptor) Write(p []byte) (int, error) {
	rest := p
	for len(rest) > 0 && len(s.pending) == 0 {
		n, err := writeNow(uintptr(s.fd), rest)
		switch {
		case err == errAgain: //nolint:errorlint // it is what writeNow returns
			s.pending = append(s.pending, rest...)
			return len(p), nil
		case err != nil:
			return 0, err
		}
		rest = rest[n:]
	}
	s.pending = append(s.pending, rest...)
	return len(p), nil
}

// Close implements net.Conn.
func (s *descriptor) Close() error {
	if s.fd < 0 {
		return net.ErrClosed
	}
	fd := s.fd
	if fd < len(s.lp.by) && s.lp.by[fd] == s {
		s.lp.by[fd] = nil
	}
	s.fd, s.pending = -1, nil
	return syscall.Close(fd) // which ends the watching
}

// LocalAddr implements net.Conn.
func (s *descriptor) LocalAddr() net.Addr { return nil }

// RemoteAddr implements net.Conn.
func (s *descriptor) RemoteAddr() net.Addr { return nil }

// SetDeadline implements net.Conn: the loop has its own.
func (s *descriptor) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (s *descriptor) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (s *descriptor) SetWriteDeadline(time.Time) error { return nil }

// land takes the descriptor out of the loop, for a goroutine.
func (s *descriptor) land() (net.Conn, error) {
	_ = syscall.EpollCtl(s.lp.epoll.fd, syscall.EPOLL_CTL_DEL, s.fd, nil) // closing ends the watching as well, but here is a copy
	f := os.NewFile(uintptr(s.fd), "tcp")
	s.lp.by[s.fd], s.fd = nil, -1
	nc, err := net.FileConn(f)
	for short(err) && s.lp.dropParked() > 0 { // a goroutine would ask Files, which asks the loops
		nc, err = net.FileConn(f)
	}
	return nc, errors.Join(err, f.Close())
}
