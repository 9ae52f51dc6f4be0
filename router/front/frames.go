package front

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// The frame types of HTTP/2 that are told apart here (RFC 9113, 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameWindow       = 0x8
	frameContinuation = 0x9

	flagEndStream = 0x1
)

// What one connection may send at once and, from then on, in a second. Streams
// that are taken back, by either side, are the dearest: their requests may have
// reached a cell. A page that a browser leaves takes back as many as were open.
const (
	resets, resetsPerSecond   = 2 * maxStreams, 20
	idles, idlesPerSecond     = 1000, 50  // frames that carry nothing: PING, SETTINGS, PRIORITY, empty DATA, what is not known
	windows, windowsPerSecond = 2000, 500 // WINDOW_UPDATE, besides one for each windowBytes that we send
	windowBytes               = 1 << 10
	maxContinuations          = 32 // of one head
)

// The kinds of floods: label of router_http2_floods_total.
const (
	floodResets        = "resets"
	floodIdle          = "idle_frames"
	floodWindows       = "window_updates"
	floodContinuations = "continuations"
)

var errFlood = errors.New("http/2: the client sends frames that only cost")

// A guarded is an HTTP/2 connection whose frames are counted, both ways: that we
// take a stream back because of what the client sends costs as if it had done so.
type guarded struct {
	net.Conn
	tls     *tls.ConnectionState // nil without TLS
	metrics *Metrics

	in, out        frames
	preface        int // bytes of the client's preface that are to come
	continuations  int // of the head under way
	resets         *rate.Limiter
	idles, windows *rate.Limiter
	sent           atomic.Int64 // bytes, since the last window that they paid for
}

// prefaceBytes is the length of "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".
const prefaceBytes = 24

func (s *Server) guard(nc net.Conn, state *tls.ConnectionState) *guarded {
	return &guarded{
		Conn: nc, tls: state, metrics: s.o.Metrics, preface: prefaceBytes,
		resets: rate.NewLimiter(resetsPerSecond, resets), idles: rate.NewLimiter(idlesPerSecond, idles), windows: rate.NewLimiter(windowsPerSecond, windows),
	}
}

// Read implements io.Reader. What comes with the frame that was too much is not
// given to anybody.
func (g *guarded) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	b := p[:n]
	if g.preface > 0 {
		k := min(g.preface, len(b))
		g.preface -= k
		b = b[k:]
	}
	if kind := g.in.each(b, g.received); kind != "" {
		return 0, g.flood(kind)
	}
	return n, err
}

// Write implements io.Writer.
func (g *guarded) Write(p []byte) (int, error) {
	if kind := g.out.each(p, g.written); kind != "" {
		return 0, g.flood(kind)
	}
	g.sent.Add(int64(len(p)))
	return g.Conn.Write(p)
}

func (g *guarded) flood(kind string) error {
	g.metrics.flood(kind)
	_ = g.Conn.Close()
	return errFlood
}

// received charges a frame of the client's, and names the flood that it is too much of.
func (g *guarded) received(f frame) string {
	switch f.kind {
	case frameContinuation:
		if g.continuations++; g.continuations > maxContinuations {
			return floodContinuations
		}
		return ""
	case frameHeaders:
		g.continuations = 0
		return ""
	case frameData:
		if f.size > 0 || f.flags&flagEndStream != 0 {
			return ""
		}
	case frameReset:
		return charge(g.resets, floodResets)
	case frameWindow:
		if left := g.sent.Load(); left >= windowBytes {
			g.sent.Add(-windowBytes)
			return ""
		}
		return charge(g.windows, floodWindows)
	}
	return charge(g.idles, floodIdle)
}

// written charges a frame of ours.
func (g *guarded) written(f frame) string {
	if f.kind == frameReset {
		return charge(g.resets, floodResets)
	}
	return ""
}

func charge(l *rate.Limiter, kind string) string {
	if l.Allow() {
		return ""
	}
	return kind
}

// A frame is a frame's head.
type frame struct {
	size        int
	kind, flags byte
}

// frames finds the heads of frames in a stream of bytes.
type frames struct {
	head [9]byte
	have int // bytes of head
	skip int // bytes of the payload that are to come
}

// each calls f for each head that ends in b, until f names a flood.
func (s *frames) each(b []byte, f func(frame) string) string {
	for len(b) > 0 {
		if s.skip > 0 {
			k := min(s.skip, len(b))
			s.skip -= k
			b = b[k:]
			continue
		}
		k := copy(s.head[s.have:], b)
		b = b[k:]
		if s.have += k; s.have < len(s.head) {
			return ""
		}
		s.have = 0
		s.skip = int(binary.BigEndian.Uint32([]byte{0, s.head[0], s.head[1], s.head[2]}))
		if kind := f(frame{s.skip, s.head[3], s.head[4]}); kind != "" {
			return kind
		}
	}
	return ""
}

type tlsKey struct{}

// connContext keeps how a connection is encrypted for withTLS.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	if g, ok := nc.(*guarded); ok && g.tls != nil {
		return context.WithValue(ctx, tlsKey{}, g.tls)
	}
	return ctx
}

// withTLS tells next how a request's connection is encrypted.
func withTLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.TLS, _ = r.Context().Value(tlsKey{}).(*tls.ConnectionState)
		next.ServeHTTP(w, r)
	})
}
