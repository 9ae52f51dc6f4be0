package h1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// tunnel sends the 101 on and then every byte, both ways, until both sides have
// ended. A side that ends its half is told so to the other.
func (t *relay) tunnel() error {
	t.tell()
	c, far := t.c, t.link.Conn
	if t.o.Stream != nil {
		near, behind := c.socket(), socketOf(far)
		done, err := t.o.Stream(func() { _ = errors.Join(behind.Close(), near.Close()) }) // who ends many waits for no goodbye of TLS
		if err != nil {
			return err
		}
		defer done()
	}
	c.w.relayed, c.w.drop = &t.x.Answer, t.o.DropAnswer
	t.w.WriteHeader(http.StatusSwitchingProtocols)
	c.w.relayed = nil
	c.out = append(c.out, t.in[t.from:t.to]...)
	c.stopWatching()
	c.srv.tunnelled(c)
	if err := errors.Join(c.w.flush(), c.nc.SetDeadline(time.Time{}), far.SetDeadline(time.Time{})); err != nil {
		return err
	}
	if _, err := far.Write(c.unread()); err != nil {
		return err
	}
	p := &pipe{idle: c.srv.Tunnel}
	p.moved.Store(time.Now().UnixNano())
	done := make(chan struct{})
	go func() { // ends with either connection; waited for below
		defer close(done)
		p.copy(far, c.nc, c.in)
	}()
	p.copy(c.nc, far, t.in)
	<-done
	return nil
}

// A pipe is the two directions of a tunnel.
type pipe struct {
	idle  time.Duration
	moved atomic.Int64 // when a byte last went either way, in ns since 1970
}

// copy moves bytes from one side to the other. An error ends both directions.
func (p *pipe) copy(to, from net.Conn, buf []byte) {
	for {
		_ = from.SetReadDeadline(time.Now().Add(p.idle)) // the read will report it
		n, err := from.Read(buf)
		if n > 0 {
			p.moved.Store(time.Now().UnixNano())
			_ = to.SetWriteDeadline(time.Now().Add(p.idle)) // the write will report it
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		switch {
		case err == nil:
		case timedOut(err) && time.Since(time.Unix(0, p.moved.Load())) < p.idle: // the other direction is alive
		case errors.Is(err, io.EOF):
			if half, ok := to.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				return
			}
			_ = to.Close()
			return
		default:
			_ = errors.Join(from.Close(), to.Close())
			return
		}
	}
}
