package router_test

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/pool"
)

// What frames say (RFC 6455, 5.2), and how a tunnel ends.
const (
	saysText, saysBytes, saysClose = 1, 2, 8

	leaving, refused, restarts = 1001, 1008, 1012
)

// accepted is what a cell answers to a client's key.
func accepted(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// frame is a whole frame; a client's has a mask.
func frame(says byte, payload []byte, masked bool) []byte {
	out := []byte{0x80 | says, byte(len(payload))}
	if len(payload) > 125 {
		out = binary.BigEndian.AppendUint16([]byte{out[0], 126}, uint16(len(payload)))
	}
	if !masked {
		return append(out, payload...)
	}
	mask := [4]byte{1, 2, 3, 4}
	out[1] |= 0x80
	out = append(out, mask[:]...)
	for i, b := range payload {
		out = append(out, b^mask[i%4])
	}
	return out
}

// readFrame reads a whole frame.
func readFrame(from io.Reader) (says byte, payload []byte, masked bool, err error) {
	var b [4]byte
	if _, err = io.ReadFull(from, b[:2]); err != nil {
		return 0, nil, false, err
	}
	says, masked = b[0]&0x0f, b[1]&0x80 != 0
	n := int(b[1] & 0x7f)
	if n == 126 {
		_, err = io.ReadFull(from, b[:2])
		n = int(binary.BigEndian.Uint16(b[:2]))
	}
	if masked && err == nil {
		_, err = io.ReadFull(from, b[:4])
	}
	if err == nil {
		payload = make([]byte, n)
		_, err = io.ReadFull(from, payload)
	}
	for i := range payload {
		if masked {
			payload[i] ^= b[i%4]
		}
	}
	return says, payload, masked, err
}

// webSocket is a cell that says everything again, or, at /torrent, more and more.
func webSocket(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " +
		accepted(r.Header.Get("Sec-WebSocket-Key")) + "\r\nCell-Secret: x\r\n\r\n")
	for err = rw.Flush(); err == nil && r.URL.Path == "/torrent"; { // pieces that are no frames
		all := append(frame(saysBytes, make([]byte, 4000), false), frame(saysText, []byte("hello"), false)...)
		for n := 0; len(all) > 0 && err == nil; all = all[n:] {
			n = min(len(all), 777)
			_, err = c.Write(all[:n])
		}
	}
	for err == nil {
		var says byte
		var payload []byte
		if says, payload, _, err = readFrame(rw); err == nil {
			_, err = c.Write(frame(says, payload, false))
		}
	}
}

// A socket is a client's end of a WebSocket.
type socket struct {
	tb testing.TB
	net.Conn
	from    *bufio.Reader
	records *records // nil where there is no TLS
}

// socket opens one of acme's, with a head of more fields.
func (w *world) socket(path, more string) *socket {
	w.tb.Helper()
	c, err := net.Dial("tcp", w.addr) //nolint:noctx // a test's connection to its own machine
	if err != nil {
		w.tb.Fatal(err)
	}
	return opened(w.tb, c, path, more)
}

// socket opens one over TLS.
func (s *secure) socket(path, more string) *socket {
	s.tb.Helper()
	nc, err := net.Dial("tcp", s.addr) //nolint:noctx // as above
	if err != nil {
		s.tb.Fatal(err)
	}
	config := s.clientConfig(acme, "http/1.1")
	config.MaxVersion = tls.VersionTLS12 // later ones hide what a record is
	r := &records{Conn: nc}
	opened := opened(s.tb, tls.Client(r, config), path, more)
	opened.records = r
	return opened
}

// records are those of TLS that come of a connection.
type records struct {
	net.Conn
	head []byte
	left int // bytes of the one under way
}

// Read implements io.Reader.
func (r *records) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	for b := p[:n]; len(b) > 0; {
		if r.left > 0 {
			k := min(r.left, len(b))
			r.left -= k
			b = b[k:]
			continue
		}
		if len(r.head) == 5 {
			r.head = r.head[:0]
		}
		k := min(5-len(r.head), len(b))
		r.head = append(r.head, b[:k]...)
		b = b[k:]
		if len(r.head) == 5 {
			r.left = int(binary.BigEndian.Uint16(r.head[3:]))
		}
	}
	return n, err
}

// alerted reports whether the last one was an alert, as a goodbye is.
func (r *records) alerted() bool { return len(r.head) == 5 && r.head[0] == 21 && r.left == 0 }

func opened(tb testing.TB, c net.Conn, path, more string) *socket {
	tb.Helper()
	tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n", path, acme, key, more)
	from := bufio.NewReader(c)
	resp, err := http.ReadResponse(from, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != accepted(key) || resp.Header.Get("Cell-Secret") != "" || resp.Header.Get("X-Request-Id") == "" {
		tb.Fatalf("got %v, %v", resp, err)
	}
	return &socket{tb, c, from, nil}
}

// echoes wants the cell to say a line again.
func (s *socket) echoes(line string) {
	s.tb.Helper()
	_, _ = s.Write(frame(saysText, []byte(line), true))
	if says, got, masked, err := readFrame(s.from); says != saysText || string(got) != line || masked || err != nil {
		s.tb.Fatalf("got %d %q, masked %v, %v; want %q", says, got, masked, err, line)
	}
}

// closes wants the socket to end: whole frames, the last of which says why, and then, when
// the client has said goodbye, the end of the connection, as it must look.
func (s *socket) closes(code uint16) {
	s.tb.Helper()
	for {
		says, got, masked, err := readFrame(s.from)
		switch {
		case err != nil || masked || says != saysText && says != saysBytes && says != saysClose:
			s.tb.Errorf("got %d %.40q, masked %v, %v, want a close frame", says, got, masked, err)
			return
		case says != saysClose:
			continue
		case len(got) < 3 || binary.BigEndian.Uint16(got) != code:
			s.tb.Errorf("got %q, want %d and a reason", got, code)
		}
		_, _ = s.Write(frame(saysClose, got, true))
		if n, err := s.from.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) || s.records != nil && !s.records.alerted() {
			s.tb.Errorf("after the goodbye: got %d bytes, %v", n, err)
		}
		return
	}
}

// TestASocketEndsWithItsKey, which was revoked.
func TestASocketEndsWithItsKey(t *testing.T) {
	t.Parallel()
	w, known := credentialed(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(webSocket)}, nil)
	gone, stays := w.socket("/", "Authorization: "+known.key+"\r\n"), w.socket("/", "Authorization: "+known.other+"\r\n")
	gone.echoes("hello")
	known.revokeKey()
	gone.closes(refused)
	stays.echoes("still")
}

// TestSockets: a tunnel outlives the time of a request, takes no place among
// requests, and is told to end when its tenant moves, so that the client finds the owner.
func TestSockets(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second // a busy machine takes its time for the 101, too
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(webSocket), "c2": named("c2")}, func(o *router.Options, l *pool.Limits) {
		o.CellTimeout, l.Requests = limit, 1
	})
	both := []*socket{w.socket("/", ""), w.socket("/", "")}
	// Both tunnels are older than this is.
	tick := time.NewTicker(limit / 8)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < limit+limit/4; <-tick.C {
		for _, s := range both {
			s.echoes("line")
		}
	}
	w.placed(place(1, "c2", 2, directory.Active), "acme")
	for _, s := range both {
		s.closes(restarts)
	}
	if a := w.do("GET", "acme."+base, "/x", ""); !strings.HasPrefix(a.body, "c2 ") {
		t.Errorf("after the move: got %q", a.body)
	}
}

// switched is a cell that answers 101 with an Upgrade, and, at /leaves, is gone then;
// elsewhere it notes when it is left.
func switched(upgrade string, left chan<- error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgrade + "\r\nSec-WebSocket-Accept: " +
			accepted(r.Header.Get("Sec-WebSocket-Key")) + "\r\n\r\n")
		if err = rw.Flush(); err != nil || r.URL.Path == "/leaves" {
			return
		}
		_, err = rw.ReadByte()
		left <- err
	})
}

// TestASocketWhoseCellHasLeftEnds with its tenant's move, whatever its client does.
func TestASocketWhoseCellHasLeftEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": switched("websocket", nil), "c2": named("c2")}, nil)
	s := w.socket("/leaves", "")
	if _, err := s.from.ReadByte(); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want the cell's end", err)
	}
	if open := w.metric("router_streams_open"); open != 1 { // the client keeps its half
		t.Fatalf("got %v open, want 1", open)
	}
	w.placed(place(1, "c2", 2, directory.Active), "acme")
	eventually(t, "nothing to be open", func() bool { return w.metric("router_streams_open") == 0 })
}

// placedAs places acme.
func placedAs(p directory.Placement) func(*world) error {
	return func(w *world) error { w.placed(p, "acme"); return nil }
}

// TestSocketsAreToldWhyTheyEnd: each by what has happened, in the clear and over TLS, also
// while the cell says more and more.
func TestSocketsAreToldWhyTheyEnd(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		happens func(w *world) error
		code    uint16
	}{
		"a move":            {placedAs(place(1, "c2", 2, directory.Active)), restarts},
		"a suspension":      {placedAs(place(1, "c1", 1, directory.Suspended)), refused},
		"a stop":            {func(w *world) error { return w.server.Shutdown(t.Context()) }, leaving},
		"before a takeover": {func(w *world) error { w.router.EndStreams(); return nil }, leaving},
	} {
		cells := map[directory.CellID]http.Handler{"c1": http.HandlerFunc(webSocket), "c2": named("c2")}
		end := func(t *testing.T, w *world, open func(path, more string) *socket) {
			quiet := open("/", "")
			quiet.echoes("hello")
			all := []*socket{quiet}
			for range 2 {
				s := open("/torrent", "")
				if says, _, _, err := readFrame(s.from); says != saysBytes || err != nil {
					t.Fatalf("got %d, %v", says, err)
				}
				all = append(all, s)
			}
			happened := make(chan error, 1)
			go func() { happened <- tt.happens(w) }() // waited for below
			for _, s := range all {
				s.closes(tt.code)
			}
			if err := <-happened; err != nil {
				t.Error(err)
			}
			eventually(t, "nothing to be open", func() bool { return w.metric("router_streams_open") == 0 })
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, cells, nil)
			end(t, w, w.socket)
		})
		t.Run(name+" over TLS", func(t *testing.T) {
			t.Parallel()
			s := newSecure(t, cells)
			end(t, s.world, s.socket)
		})
	}
}
