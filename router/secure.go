package router

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/certs"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/front"
	"github.com/cellway/cellway/router/guard"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/pool"
)

// NewFront is the server of the encrypted listener: HTTP/1.1 by engine, which is
// a NewServer or a NewEngine of its own, and HTTP/2.
func (rt *Router) NewFront(hosts *certs.Hosts, engine front.Engine, m *front.Metrics) *front.Server {
	o := rt.frontOptions(m)
	o.TLS, o.Engine = hosts.Config(), engine
	return front.New(o)
}

// NewH2C is the server of a listener for HTTP/2 without TLS.
func (rt *Router) NewH2C(m *front.Metrics) *front.Server { return front.New(rt.frontOptions(m)) }

func (rt *Router) frontOptions(m *front.Metrics) front.Options {
	return front.Options{
		Handler: h1.Strict(rt.Handler(), h1.Limits{Head: maxHeadIn}, rt.malformed),
		Whole:   rt.whole(), Idle: clientIdle, MaxHead: maxHeadIn,
		Draining: rt.streams.Close, // their clients find another router
		Hop:      func(peer net.Addr) bool { return rt.Guard.Trusts(guard.PeerOf(peer.String())) },
		Metrics:  m, Log: rt.Log,
	}
}

// misdirected is an error where a request is for another host than its connection
// was opened for, and that one has another certificate.
func (rt *Router) misdirected(conn *tls.ConnectionState, host string) error {
	if conn == nil || rt.Covering == nil || front.Match(conn.ServerName, host, rt.Covering) {
		return nil
	}
	return errMisdirected
}

var errMisdirected = problem.New(problem.Misdirected, "this connection was opened for another name; open one for this host")

// proto is what a client speaks to us, for its cell.
func proto(conn *tls.ConnectionState) string {
	if conn == nil {
		return "http"
	}
	return "https"
}

// A cellTransport is a transport to one cell, which makes TLS where the cell's address is https:
// whoever answers must prove that it is this cell. Another one takes its place when a certificate
// ends by which a connection was opened, as net/http would go on using it.
type cellTransport struct {
	cell   directory.CellID
	limits pool.Limits
	mu     sync.Mutex
	now    *http.Transport
	end    time.Time // zero: none is near
}

func newCellTransport(id directory.CellID, l pool.Limits) *cellTransport {
	c := &cellTransport{cell: id, limits: l}
	l.Files.Join(c)
	return c
}

// RoundTrip implements http.RoundTripper.
func (c *cellTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return c.current().RoundTrip(r)
}

// CloseIdleConnections closes those that are idle.
func (c *cellTransport) CloseIdleConnections() { c.current().CloseIdleConnections() }

func (c *cellTransport) current() *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil && !c.end.IsZero() && time.Now().After(c.end) {
		c.now.CloseIdleConnections() // and those in use when they would be idle: nobody asks it for one any more
		c.now, c.end = nil, time.Time{}
	}
	if c.now == nil {
		c.now = newTransport(c.limits)
		dial := c.now.DialContext
		c.now.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) { return c.dialTLS(ctx, dial, addr) }
	}
	return c.now
}

func (c *cellTransport) dialTLS(ctx context.Context, dial func(ctx context.Context, network, addr string) (net.Conn, error), addr string) (net.Conn, error) {
	if c.limits.Trust == nil {
		return nil, pool.Unavailable(pool.ErrNoIdentity, "the owning cell does not answer")
	}
	nc, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.limits.Connect)
	defer cancel()
	tc, end, err := h1.Handshake(ctx, nc, c.limits.Trust(c.cell))
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end.IsZero() || end.Before(c.end) {
		c.end = end
	}
	return tc, nil
}
