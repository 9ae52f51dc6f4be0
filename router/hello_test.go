package router_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A cutter sends its first record, which is a ClientHello, as several, each with so many bytes
// of it, and all of that in segments of so many.
type cutter struct {
	net.Conn
	record, segment int
	began           bool
}

// Write implements io.Writer.
func (c *cutter) Write(p []byte) (int, error) {
	if c.began {
		return c.Conn.Write(p)
	}
	c.began = true
	var out []byte
	for rest := p[5:]; len(rest) > 0; {
		n := min(c.record, len(rest))
		out = append(append(out, p[0], p[1], p[2], byte(n>>8), byte(n)), rest[:n]...) //nolint:gosec // a record has 16 KiB at most
		rest = rest[n:]
	}
	for len(out) > 0 {
		n := min(c.segment, len(out))
		if _, err := c.Conn.Write(out[:n]); err != nil {
			return 0, err
		}
		out = out[n:]
	}
	return len(p), nil
}

// TestAClientHelloInPieces: the name that a client asks for is read as a whole, in however many
// records and segments it comes: it gets that name's certificate, and no request for what
// another one covers (X13).
func TestAClientHelloInPieces(t *testing.T) {
	t.Parallel()
	s := newSecure(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "c1") })})
	for _, in := range []cutter{{record: 1 << 14, segment: 1}, {record: 1, segment: 1 << 14}, {record: 7, segment: 3}, {record: 100, segment: 1 << 14}} {
		for _, protocol := range []string{"http/1.1", "h2"} {
			tr := &http.Transport{ForceAttemptHTTP2: protocol == "h2", DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				tc := tls.Client(&cutter{Conn: nc, record: in.record, segment: in.segment}, s.clientConfig(acme, protocol))
				return tc, tc.HandshakeContext(ctx)
			}}
			t.Cleanup(tr.CloseIdleConnections)
			c := &http.Client{Transport: tr, Timeout: 30 * time.Second}
			name := fmt.Sprintf("records of %d, segments of %d, %s", in.record, in.segment, protocol)
			if got := s.ask(t, c, "GET", acme, "/", nil); got.StatusCode != 200 || got.body != "c1" || (got.ProtoMajor == 2) != (protocol == "h2") {
				t.Errorf("%s: got %d %s over %s", name, got.StatusCode, got.body, got.Proto)
			}
			if got := s.ask(t, c, "GET", "www.acme.com", "/", nil); got.StatusCode != 421 || got.code() != problem.Misdirected {
				t.Errorf("%s: another name: got %d %s", name, got.StatusCode, got.body)
			}
		}
	}
}
