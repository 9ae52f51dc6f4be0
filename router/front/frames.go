package front

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
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
	flagPadded    = 0x8

	codeInternal = 0x2 // of a stream that we take back: an answer was cut, or not taken in time
)

// What one connection may send at once and, from then on, in a second. Streams
// that are taken back, by either side, are the dearest: their requests may have
// reached a cell. A page that a browser leaves takes back as many as were open.
const (
	resets, resetsPerSecond   = 2 * maxStreams, 20
	idles, idlesPerSecond     = 1000, 50  // frames that carry nothing: PING, SETTINGS, PRIORITY, empty DATA, what is not known
	windows, windowsPerSecond = 2000, 500 // WINDOW_UPDATE, besides one for each windowBytes that we send
	windowBytes               = 1 << 10
	lateBytes                 = 1 << 10 // a DATA frame that is smaller, for a stream that has had its answer, carries nothing
	maxContinuations          = 32      // of one head
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
	from    netip.Prefix         // whose share its requests count in; the zero value: of a hop, nobody's
	metrics *Metrics

	in, out        frames
	preface        int           // bytes of the client's preface that are to come
	continuations  int           // of the head under way
	resets         *rate.Limiter // nil: of a hop, where many clients' streams are
	idles, windows *rate.Limiter
	ended          answered
	sent           atomic.Int64 // bytes, since the last window that they paid for
	alone          bool         // what is written is heads, of answers that go on
	heads          heads
}

// prefaceBytes is the length of "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".
const prefaceBytes = 24

func (s *Server) guard(nc net.Conn, state *tls.ConnectionState) *guarded {
	g := &guarded{
		Conn: nc, tls: state, metrics: s.o.Metrics, preface: prefaceBytes,
		idles: rate.NewLimiter(idlesPerSecond, idles), windows: rate.NewLimiter(windowsPerSecond, windows),
	}
	g.heads.conn = nc
	if state != nil && (s.o.Hop == nil || !s.o.Hop(nc.RemoteAddr())) {
		g.resets, g.from = rate.NewLimiter(resetsPerSecond, resets), addressOf(nc.RemoteAddr())
	}
	return g
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

// Write implements io.Writer. Heads of answers may be written with the next frames, or later.
func (g *guarded) Write(p []byte) (int, error) {
	g.alone = g.out.between()
	if kind := g.out.each(p, g.written); kind != "" {
		return 0, g.flood(kind)
	}
	g.sent.Add(int64(len(p)))
	return g.heads.write(p, g.alone && g.out.between())
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
		if f.flags&flagEndStream != 0 || f.data >= lateBytes || f.data > 0 && !g.ended.has(f.stream) {
			return ""
		}
	case frameReset:
		if !g.ended.has(f.stream) {
			return g.reset()
		}
		if g.ended.leave(f.stream) {
			return ""
		}
	case frameWindow:
		if left := g.sent.Load(); left >= windowBytes {
			g.sent.Add(-windowBytes)
			return ""
		}
		return charge(g.windows, floodWindows)
	}
	return charge(g.idles, floodIdle)
}

// written charges a frame of ours. Of a stream that has had its answer net/http takes
// back what is left: a body that was refused, and each piece of it that comes late. That a
// cell cuts its answers is no doing of the client's, whose other requests go to other cells:
// what it can bring about has other codes, or lasts as long as a deadline.
func (g *guarded) written(f frame) string {
	g.alone = g.alone && f.kind == frameHeaders && f.flags&flagEndStream == 0
	switch f.kind {
	case frameHeaders, frameData:
		if f.flags&flagEndStream != 0 {
			g.ended.add(f.stream)
		}
	case frameReset:
		switch {
		case g.ended.has(f.stream):
		case f.code == codeInternal:
			g.ended.add(f.stream)
		default:
			return g.reset()
		}
	}
	return ""
}

// reset charges a stream that is taken back. What a hop of ours takes back is not
// counted: one client behind it would cut the others' connection.
func (g *guarded) reset() string {
	if g.resets == nil {
		return ""
	}
	return charge(g.resets, floodResets)
}

func charge(l *rate.Limiter, kind string) string {
	if l.Allow() {
		return ""
	}
	return kind
}

// A frame is what is looked at of one.
type frame struct {
	kind, flags byte
	stream      uint32
	data        int    // bytes of the payload; of DATA those that are no padding
	code        uint32 // of RST_STREAM
}

// frames finds frames in a stream of bytes.
type frames struct {
	head [headBytes + codeBytes]byte // with the length of the padding, or the code
	have int                         // bytes of head
	skip int                         // bytes of the payload that are to come
}

const headBytes, codeBytes = 9, 4

// each calls f for each frame once its head is there, until f names a flood.
func (s *frames) each(b []byte, f func(frame) string) string {
	for len(b) > 0 {
		if s.skip > 0 {
			k := min(s.skip, len(b))
			s.skip -= k
			b = b[k:]
			continue
		}
		k := copy(s.head[s.have:s.want()], b)
		b = b[k:]
		s.have += k
		if s.have < s.want() { // it may grow with the head
			continue
		}
		size := s.size()
		found := frame{kind: s.head[3], flags: s.head[4], stream: binary.BigEndian.Uint32(s.head[5:]) &^ (1 << 31), data: size}
		switch s.have {
		case headBytes + 1:
			found.data = size - 1 - int(s.head[headBytes])
		case headBytes + codeBytes:
			found.code = binary.BigEndian.Uint32(s.head[headBytes:])
		}
		s.have, s.skip = 0, size-(s.have-headBytes)
		if kind := f(found); kind != "" {
			return kind
		}
	}
	return ""
}

// between reports whether the last frame is whole.
func (s *frames) between() bool { return s.have == 0 && s.skip == 0 }

// size is the payload's, once the head is there.
func (s *frames) size() int {
	return int(binary.BigEndian.Uint32([]byte{0, s.head[0], s.head[1], s.head[2]}))
}

// want is how many bytes of head the frame has, as far as is known.
func (s *frames) want() int {
	switch {
	case s.have < headBytes:
	case s.head[3] == frameData && s.head[4]&flagPadded != 0 && s.size() > 0:
		return headBytes + 1
	case s.head[3] == frameReset && s.size() >= codeBytes:
		return headBytes + codeBytes
	}
	return headBytes
}
