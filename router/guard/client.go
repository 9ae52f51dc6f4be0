package guard

import (
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
)

// clientBucket is an address's: of IPv6 the /64, which one client has all of.
func clientBucket(a netip.Addr) bucket {
	a = a.Unmap()
	b := a.As16()
	if a.Is4() {
		return bucket{of: binary.BigEndian.Uint64(b[8:]), kind: anIPv4}
	}
	return bucket{of: binary.BigEndian.Uint64(b[:8]), kind: anIPv6}
}

// trusts reports whether an address is a hop of ours, on whatever link: no prefix contains
// an address with a zone.
func (ru *rules) trusts(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range ru.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Client is the address that a request comes from: peer, unless that is a trusted
// hop; then the last address in X-Forwarded-For that is not a trusted hop's too.
// What a client itself wrote there is never believed. forwarded holds the header's
// lines in their order; a malformed entry ends the search.
func (g *Guard) Client(peer netip.Addr, forwarded []string) netip.Addr {
	ru := g.rules.Load()
	if len(ru.trusted) == 0 || !ru.trusts(peer) {
		return peer
	}
	client := peer
	for i := len(forwarded) - 1; i >= 0; i-- {
		rest, more := forwarded[i], true
		for more {
			var entry string
			if at := strings.LastIndexByte(rest, ','); at >= 0 {
				rest, entry = rest[:at], rest[at+1:]
			} else {
				entry, more = rest, false
			}
			a, ok := hopIn(strings.Trim(entry, " \t"))
			if !ok {
				return client
			}
			if client = a.Unmap(); !ru.trusts(client) {
				return client
			}
		}
	}
	return client
}

// ClientOf is Client of a request as net/http has it.
func (g *Guard) ClientOf(r *http.Request) netip.Addr {
	return g.Client(PeerOf(r.RemoteAddr), r.Header["X-Forwarded-For"])
}

// hopIn is the address in an entry of X-Forwarded-For, to which some balancers add
// the port.
func hopIn(entry string) (a netip.Addr, ok bool) {
	a, err := netip.ParseAddr(entry)
	if err == nil {
		return a, a.Zone() == ""
	}
	ap, err := netip.ParseAddrPort(entry)
	if err != nil {
		ap, err = netip.ParseAddrPort(entry + ":0") // [IPv6]
	}
	return ap.Addr(), err == nil && ap.Addr().Zone() == ""
}

// Trusts reports whether peer is a hop whose forwarding headers count.
func (g *Guard) Trusts(peer netip.Addr) bool { return g.rules.Load().trusts(peer) }

// EnterConn takes one of an address's connections; LeaveConn gives it back. Both
// look at the policy's cap, of which a trusted hop has none, and at Bound's.
func (g *Guard) EnterConn(peer netip.Addr) bool {
	ru := g.rules.Load()
	if n := g.open.Add(1); g.bound > 0 && n > g.bound {
		g.open.Add(-1)
		g.metrics.refused.WithLabelValues("connections").Inc()
		return false
	}
	most := ru.clients.Connections
	if most == 0 || ru.trusts(peer) {
		most = int(^uint32(0) >> 1) // counted, so that a cap that comes later knows of them
	}
	if g.conns.enter(clientBucket(peer), most) {
		return true
	}
	g.open.Add(-1)
	g.metrics.refused.WithLabelValues("client_connections").Inc()
	return false
}

// LeaveConn gives a connection of EnterConn back.
func (g *Guard) LeaveConn(peer netip.Addr) {
	g.open.Add(-1)
	g.conns.leave(clientBucket(peer))
}

// Bound is the most connections of all addresses together: the newest are refused,
// so that those who are served stay. 0 is no bound. It must be called before the others.
func (g *Guard) Bound(most int) { g.bound = int64(most) }

// Connected is how many connections there are now.
func (g *Guard) Connected() int { return int(g.open.Load()) }

// Listener is ln without the connections that are one too many of their address:
// those are closed before a byte of them is read.
func (g *Guard) Listener(ln net.Listener) net.Listener { return &listener{ln, g} }

type listener struct {
	net.Listener
	guard *Guard
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := PeerOf(c.RemoteAddr().String())
		if l.guard.EnterConn(peer) {
			return &conn{Conn: c, guard: l.guard, peer: peer}, nil
		}
		_ = c.Close() // nothing of it was used
	}
}

type conn struct {
	net.Conn
	guard *Guard
	peer  netip.Addr
	once  sync.Once
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() { c.guard.LeaveConn(c.peer) })
	return c.Conn.Close()
}

// CloseWrite half-closes, where the connection below can.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}

// Wraps is the connection below, for a driver that closes this one in the end.
func (c *conn) Wraps() net.Conn { return c.Conn }

// SyscallConn implements syscall.Conn: the h1 engine looks at the socket itself.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// SetLinger does what it does of TCP connections, where the one below is one: an
// answer that is cut must end in a reset.
func (c *conn) SetLinger(sec int) error {
	if tcp, ok := c.Conn.(interface{ SetLinger(sec int) error }); ok {
		return tcp.SetLinger(sec)
	}
	return errors.ErrUnsupported
}

// PeerOf is the address in "host:port", the zero Addr where there is none.
func PeerOf(hostPort string) netip.Addr {
	ap, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
