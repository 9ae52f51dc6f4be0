package router

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

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

// newSecured is a transport to one cell, which makes TLS where the cell's address
// is https: whoever answers must prove that it is this cell.
func newSecured(id directory.CellID, l pool.Limits) *http.Transport {
	t := newTransport(l)
	dial := t.DialContext
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if l.Trust == nil {
			return nil, pool.Unavailable(pool.ErrNoIdentity, "the owning cell does not answer")
		}
		nc, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, l.Connect)
		defer cancel()
		tc := tls.Client(nc, l.Trust(id))
		if err := tc.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, &net.OpError{Op: "tls handshake", Net: network, Addr: nc.RemoteAddr(), Err: err}
		}
		return tc, nil
	}
	return t
}
