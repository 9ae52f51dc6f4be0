package h1

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"time"
)

// secure makes TLS of a new connection to a cell. Errors are the network's, those
// of a certificate too: who cannot prove that it is the cell does not answer.
func (u *Upstream) secure(ctx context.Context, l *link, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	nc := l.Conn
	s := &secured{records: records{Conn: nc}}
	var err error
	if s.Conn, l.end, err = Handshake(ctx, &s.records, u.TLS); err != nil {
		_ = l.Close()
		return err
	}
	l.ground(nc)
	l.Conn, l.tls = s.Conn, s
	return nil
}

// Handshake makes TLS of a connection, as a client. No request may begin on it after end: the
// sooner end of the two certificates, or a little before, for not all connections that were
// opened with one must be opened again at once.
func Handshake(ctx context.Context, nc net.Conn, c *tls.Config) (conn *tls.Conn, end time.Time, err error) {
	c = c.Clone()
	var own *x509.Certificate
	if show := c.GetClientCertificate; show != nil {
		c.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			shown, err := show(asked)
			if err == nil {
				own = shown.Leaf
			}
			return shown, err
		}
	}
	conn = tls.Client(nc, c)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, end, &net.OpError{Op: "tls handshake", Net: "tcp", Addr: nc.RemoteAddr(), Err: err}
	}
	end = conn.ConnectionState().PeerCertificates[0].NotAfter
	if own != nil && own.NotAfter.Before(end) {
		end = own.NotAfter
	}
	if left := time.Until(end); left > 0 {
		end = end.Add(-rand.N(left/8 + 1)) //nolint:gosec // nobody gains by guessing it
	}
	return conn, end, nil
}

// A secured is a TLS connection of which it is known whether bytes that were
// received wait in it: between two exchanges they are no answer to anything.
type secured struct {
	*tls.Conn
	records records
	one     [1]byte
}

// quiet reports whether nothing waits between the socket and who reads.
func (s *secured) quiet() bool {
	if s.records.inside() {
		return false
	}
	s.records.still = true
	n, err := s.Read(s.one[:]) // of what crypto/tls has already
	s.records.still = false
	return n == 0 && timedOut(err)
}

// records notes where in a TLS record the bytes end that were read from a socket.
type records struct {
	net.Conn
	head  [5]byte
	have  int  // bytes of head
	left  int  // bytes of the record that are to come
	still bool // the socket is not read: it is as if nothing came in time
}

// Read implements io.Reader.
func (r *records) Read(p []byte) (int, error) {
	if r.still {
		return 0, os.ErrDeadlineExceeded // which crypto/tls can go on after
	}
	n, err := r.Conn.Read(p)
	for b := p[:n]; len(b) > 0; {
		if r.left > 0 {
			k := min(r.left, len(b))
			r.left -= k
			b = b[k:]
			continue
		}
		k := copy(r.head[r.have:], b)
		b = b[k:]
		if r.have += k; r.have == len(r.head) {
			r.have, r.left = 0, int(binary.BigEndian.Uint16(r.head[3:]))
		}
	}
	return n, err
}

// inside reports whether a record was received in part.
func (r *records) inside() bool { return r.have > 0 || r.left > 0 }

// setTLS notes how a client's connection is encrypted. The handshake is over: who
// accepts a connection for us waits for it.
func (c *conn) setTLS() {
	if s, ok := c.nc.(*tls.Conn); ok {
		state := s.ConnectionState()
		c.secured = &state
	}
}

// awaitByte waits for a first byte without a buffer, where the socket cannot be
// asked: what is idle must cost little.
func (c *conn) awaitByte() error {
	n, err := c.nc.Read(c.one[:])
	if n == 0 {
		return err
	}
	c.acquire()
	c.to = copy(c.in, c.one[:n])
	return nil
}

// dropUnsent makes the connection end with a reset.
func (c *conn) dropUnsent() {
	if tcp, ok := c.socket().(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
	}
}

// rawSocket is socket for questions to the kernel; nil where it is none.
func (c *conn) rawSocket() syscall.RawConn {
	if c.raw != nil {
		return c.raw
	}
	sc, ok := c.socket().(syscall.Conn)
	if !ok {
		return nil
	}
	raw, _ := sc.SyscallConn() // nil where it fails
	return raw
}

// socket is what the connection's bytes go through, encrypted or not.
func (c *conn) socket() net.Conn { return socketOf(c.nc) }

func socketOf(nc net.Conn) net.Conn {
	if s, ok := nc.(interface{ NetConn() net.Conn }); ok { // *tls.Conn
		return s.NetConn()
	}
	return nc
}
