package front

import (
	"context"
	"crypto/tls"
	"net"
	"syscall"
	"time"
)

const (
	handshakeTime = 10 * time.Second
	handshakes    = 4096 // at once, of who has said something; who comes then is not served
)

// take brings a connection in, once its handshake is made.
func (s *Server) take(nc net.Conn) {
	if s.o.TLS == nil {
		s.frames.give(s.guard(nc, nil))
		return
	}
	s.shakes.Go(func() { // ends with the handshake, which has a deadline
		ctx, cancel := context.WithTimeout(s.ctx, handshakeTime)
		defer cancel()
		if err := speaks(ctx, nc); err != nil {
			s.o.Metrics.handshake("failed")
			_ = nc.Close()
			return
		}
		g := &guest{}
		if s.o.Hop == nil || !s.o.Hop(nc.RemoteAddr()) {
			g.from = addressOf(nc.RemoteAddr())
		}
		if s.shaking.enter(g, false) != nil {
			s.o.Metrics.handshake("crowded")
			_ = nc.Close()
			return
		}
		tc := s.handshake(ctx, nc)
		s.shaking.leave(g)
		if tc != nil {
			s.give(tc)
		}
	})
}

// speaks waits for nc's first byte, which it leaves there: who sends nothing keeps nobody
// from a handshake.
func speaks(ctx context.Context, nc net.Conn) error {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil //nolint:nilerr // no socket: the handshake waits
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) }) // the read will report it
	defer stop()
	var b [1]byte
	return raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return err != syscall.EAGAIN //nolint:errorlint // an Errno as the kernel gave it; what else it says the handshake finds
	})
}

// handshake makes TLS, nil where it fails.
func (s *Server) handshake(ctx context.Context, nc net.Conn) *tls.Conn {
	tc := tls.Server(nc, s.o.TLS)
	if err := tc.HandshakeContext(ctx); err != nil {
		s.o.Metrics.handshake("failed")
		_ = nc.Close()
		return nil
	}
	return tc
}

// give gives the connection to who speaks its protocol.
func (s *Server) give(tc *tls.Conn) {
	state := tc.ConnectionState()
	s.o.Metrics.handshake(outcome(&state))
	if state.NegotiatedProtocol == "h2" {
		s.frames.give(s.guard(tc, &state))
		return
	}
	s.plain.give(tc)
}

func outcome(state *tls.ConnectionState) string {
	if state.DidResume {
		return "resumed"
	}
	return "full"
}
